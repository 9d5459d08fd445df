package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// edit changes a few rows of the shop's data, says so, and returns what must be different at the tools after the next run, in
// the words of holds.since.
func (d *demo) edit(ctx context.Context) ([]string, error) {
	had := d.holds(ctx)
	var gold string
	edits := []struct {
		says string
		file string
		do   func(text string) string
	}{
		{
			"Shawn moves to København (a newer row in contacts.csv)", "contacts.csv",
			func(text string) string {
				return text + "275,2,shawn2@example.com,,Shawn,København,false,2018-04-09 12:00:00\n"
			},
		},
		{
			"Clara, a reader who never bought anything, asks to be forgotten (her rows go)", "contacts.csv",
			func(text string) string { return without(text, "reader05@example.org") },
		},
		{
			"order 84 is completed, which makes customer 70 a VIP", "raw_orders.csv",
			func(text string) string {
				return strings.Replace(text, "\n84,70,2018-03-26,placed", "\n84,70,2018-03-26,completed", 1)
			},
		},
		{
			"Amy, who was to be won back, orders again", "raw_orders.csv",
			func(text string) string { return text + "100,12,2018-04-09,placed\r\n" },
		},
	}
	for _, e := range edits {
		d.page.lines([]string{"• " + e.says})
		path := filepath.Join(d.dir, "data", e.file)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		edited := e.do(string(text))
		if edited == string(text) {
			return nil, fmt.Errorf("the edit of %s changed nothing", e.file)
		}
		if err := os.WriteFile(path, []byte(edited), 0o644); err != nil {
			return nil, err
		}
	}
	gold = keyOf(had.contacts, "70@example.com")
	want := []string{
		"contact changed: " + keyOf(had.contacts, "shawn2@example.com"),
		"contact removed: " + keyOf(had.contacts, "reader05@example.org"),
		"contact changed: " + gold,
		"VIP added: " + gold,
		"recipient removed: " + keyOf(had.campaigns, "amy12@example.com"),
		"archive: 1 new file",
	}
	slices.Sort(want)
	return want, nil
}

// without leaves out the lines that hold a text.
func without(text, part string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(strings.ToLower(line), part) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// keyOf is the key of the record that holds a text.
func keyOf(records map[string]string, part string) string {
	for key, text := range records {
		if strings.Contains(key+text, part) {
			return key
		}
	}
	return "nobody with " + part
}
