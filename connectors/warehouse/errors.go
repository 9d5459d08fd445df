package warehouse

import "github.com/dray-dev/dray/internal/diag"

// OptionError is a key of `warehouse:` that an engine refuses. Whoever knows the file adds the place.
type OptionError struct {
	Key string
	Err *diag.Error
}

func (e *OptionError) Error() string { return e.Err.Error() }

// Unwrap gives what is wrong.
func (e *OptionError) Unwrap() error { return e.Err }
