package hubspot

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// text writes a value as HubSpot's properties hold it: all are texts, the empty one clears.
func text(v any, kind warehouse.Kind) string {
	switch v := v.(type) {
	case string:
		if kind == warehouse.JSON {
			return options(v)
		}
		return v
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case time.Time:
		if kind == warehouse.Date {
			return v.UTC().Format(time.DateOnly)
		}
		return v.UTC().Format("2006-01-02T15:04:05.000Z")
	default:
		return ""
	}
}

// options joins a JSON list of texts, numbers and booleans with semicolons, as a property with several options wants it; any
// other JSON stays as it is.
func options(s string) string {
	var list []any
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if err := d.Decode(&list); err != nil || list == nil {
		return s
	}
	parts := make([]string, 0, len(list))
	for _, v := range list {
		switch v := v.(type) {
		case string:
			parts = append(parts, v)
		case json.Number:
			parts = append(parts, v.String())
		case bool:
			parts = append(parts, strconv.FormatBool(v))
		default:
			return s
		}
	}
	return strings.Join(parts, ";")
}
