package config

import (
	"fmt"
	"io"
	"strings"
)

// Sample writes a commented sample file with every option at its default.
func Sample(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# VMThunder. Every option at its default; `vmthunder config sample` writes this file.\n")
	var sections []string
	seen := map[string]bool{}
	for _, o := range Options {
		if !seen[o.Section] {
			seen[o.Section] = true
			sections = append(sections, o.Section)
		}
	}
	for _, s := range sections {
		fmt.Fprintf(&b, "\n[%s]\n", s)
		for _, o := range Options {
			if o.Section != s {
				continue
			}
			fmt.Fprintf(&b, "\n# %s\n#%s = %s\n", o.Help, o.Name, o.Default)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
