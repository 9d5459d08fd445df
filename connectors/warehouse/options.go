package warehouse

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dray-dev/dray/internal/diag"
)

// OptionError is a key of `warehouse:` that an engine refuses. Whoever knows the file adds the place.
type OptionError struct {
	Key string
	Err *diag.Error
}

// InvalidOption refuses a key. Its text must not quote what may be a secret.
func InvalidOption(key, format string, args ...any) *OptionError {
	return &OptionError{Key: key, Err: diag.Errorf(diag.Invalid, "warehouse.option", format, args...)}
}

// WithHint adds the way out.
func (e *OptionError) WithHint(format string, args ...any) *OptionError {
	_ = e.Err.WithHint(format, args...)
	return e
}

func (e *OptionError) Error() string { return e.Err.Error() }

// Unwrap gives what is wrong.
func (e *OptionError) Unwrap() error { return e.Err }

// OptionTexts reads options as texts, "" for what is not given. A key that is not among keys is refused; engine is the warehouse's
// name in the error.
func OptionTexts(engine string, given map[string]any, keys []string) (text func(key string) string, err error) {
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(keys, key) {
			return nil, InvalidOption(key, "the %s warehouse has no option %q", engine, key).WithHint("it has %s", strings.Join(keys, ", "))
		}
	}
	return func(key string) string {
		if v, ok := given[key]; ok && v != nil {
			return fmt.Sprint(v)
		}
		return ""
	}, nil
}

// OptionFile reads a file that the option key names: from dir, unless its path is absolute or begins with ~/.
func OptionFile(engine, key, file, dir string) (path string, content []byte, err error) {
	if home, ok := strings.CutPrefix(file, "~/"); ok {
		if base, err := os.UserHomeDir(); err == nil {
			file = filepath.Join(base, home)
		}
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, filepath.FromSlash(file))
	}
	content, err = os.ReadFile(file)
	if err != nil {
		return file, nil, &OptionError{Key: key, Err: &diag.Error{Code: "warehouse.option", Msg: fmt.Sprintf("the %s warehouse's %s cannot be read", engine, key), Err: err}}
	}
	return file, content, nil
}

// Loopback tells whether a host is this machine, by its name or address alone: a stand-in there needs no encryption.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
