package alert_test

import (
	"os"
	"testing"

	"github.com/dray-dev/dray/internal/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Check(m.Run())) }
