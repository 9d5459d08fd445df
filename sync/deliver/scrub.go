package deliver

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
)

var (
	address = regexp.MustCompile(`[^\s"'<>(),;:]+@[^\s"'<>(),;:]+`)
	digits  = regexp.MustCompile(`\+?\d[\d ()-]{6,}\d`)
)

// maxMessage keeps a vendor's words short enough for a table.
const maxMessage = 300

// scrub takes a row's own values out of a vendor's message, and whatever looks like an address or a number of a person (I6).
func scrub(message string, c *destination.Change) string {
	if message == "" {
		return ""
	}
	for _, values := range [][]any{c.Key, c.OldKey, c.Fields} {
		for _, v := range values {
			if s := text(v); len(s) >= 3 {
				message = strings.ReplaceAll(message, s, "***")
			}
		}
	}
	message = digits.ReplaceAllString(address.ReplaceAllString(message, "***"), "***")
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	return message
}

func text(v any) string {
	switch v := v.(type) {
	case nil, bool:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

const levelRetry = slog.LevelInfo

func retryAttrs(run destination.Run, p part, e *destination.Error) []slog.Attr {
	return []slog.Attr{
		slog.String("sync", run.Sync), slog.String("run", run.ID), slog.Int("rows", len(p.rows)), slog.Int("attempt", p.attempt),
		slog.String("code", e.Code), slog.Duration("retry_after", e.RetryAfter),
	}
}
