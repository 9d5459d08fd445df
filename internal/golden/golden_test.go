package golden

import "testing"

func TestFirstDifferenceNamesTheLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, got, want string
		line            int
		g, w            string
	}{
		{"in the middle", "a\nb\nc", "a\nx\nc", 2, "b", "x"},
		{"longer", "a\nb\nc", "a\nb", 3, "c", ""},
		{"shorter", "a", "a\nb", 2, "", "b"},
		{"trailing newline", "a\n", "a", 2, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			line, g, w := firstDifference([]byte(tt.got), []byte(tt.want))
			if line != tt.line || g != tt.g || w != tt.w {
				t.Errorf("got line %d (%q, %q), want line %d (%q, %q)", line, g, w, tt.line, tt.g, tt.w)
			}
		})
	}
}
