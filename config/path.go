package config

import "strings"

// SplitPath splits a field's name at its dots; \. is a dot that does not nest.
func SplitPath(name string) []string {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch {
		case name[i] == '\\' && i+1 < len(name) && name[i+1] == '.':
			b.WriteByte('.')
			i++
		case name[i] == '.':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(name[i])
		}
	}
	return append(parts, b.String())
}
