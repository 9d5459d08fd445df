package leaks

import "testing"

func TestCheck(t *testing.T) { // alone: what other tests start would count
	if code := Check(3); code != 3 {
		t.Errorf("failed tests end with %d, want their own code", code)
	}
	if code := Check(0); code != 0 {
		t.Errorf("tests that leave nothing end with %d", code)
	}
	end := make(chan struct{})
	defer close(end)
	go func() { <-end }()
	if code := Check(0); code != 1 {
		t.Errorf("a goroutine that is left ends with %d, want 1", code)
	}
}
