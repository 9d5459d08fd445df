package cli

import (
	"bufio"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/dray-dev/dray/internal/diag"
)

// confirm asks before something that cannot be taken back (I4). Where nobody can be asked, --yes must have been given.
func (a *app) confirm(yes bool, what string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.in) {
		return diag.Errorf(diag.Invalid, "cli.confirm", "%s", what).WithHint("say --yes to do it without being asked")
	}
	a.err.line("%s", what)
	_, _ = a.err.w.Write([]byte(a.err.bold("Do it? [y/N] ")))
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && answer == "" {
		return notConfirmed()
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	default:
		return notConfirmed()
	}
}

func notConfirmed() error {
	return diag.Errorf(diag.Invalid, "cli.not_confirmed", "nothing was done: it was not confirmed")
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
