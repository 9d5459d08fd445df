package cli

import (
	"bufio"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/dray-dev/dray/internal/diag"
)

// confirm asks the person at a terminal before something that cannot be taken back (I4); --yes answers in advance. In a script
// nobody can be asked, and the command, which names one sync and does nothing else, is the consent.
func (a *app) confirm(yes bool, what string) error {
	if yes || !isTerminal(a.in) {
		return nil
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
