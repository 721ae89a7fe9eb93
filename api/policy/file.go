package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Load reads an operator's policy.yaml: a map of rule names to checks (YAML or JSON, as
// oslo.policy reads it). A file with no rules is fine; one that can't be read is not.
func Load(file string) ([]Override, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return Read(b, file)
}

// Read is Load for what a file holds; name is the file's, for errors.
func Read(b []byte, name string) ([]Override, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil // comments only
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: it is no map of rules", name, root.Line)
	}
	var out []Override
	var errs []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		o := Override{Name: key.Value, Where: fmt.Sprintf("%s:%d", name, key.Line)}
		text, err := checkText(value)
		if key.Kind != yaml.ScalarNode || err != nil {
			errs = append(errs, fmt.Errorf("%s: rule %q: %w", o.Where, o.Name, errors.Join(err)))
			continue
		}
		o.Check = text
		out = append(out, o)
	}
	return out, errors.Join(errs...)
}

// checkText is a check as text: a string, or oslo.policy's older form, a list of lists,
// of which all of one list must hold.
func checkText(n *yaml.Node) (string, error) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		return n.Value, nil
	case n.Kind != yaml.SequenceNode:
		return "", errors.New("its value is neither a string nor a list")
	case len(n.Content) == 0:
		return "", nil
	}
	var any []string
	for _, inner := range n.Content {
		if inner.Kind == yaml.ScalarNode {
			any = append(any, "("+inner.Value+")")
			continue
		}
		var all []string
		for _, one := range inner.Content {
			if one.Kind != yaml.ScalarNode {
				return "", errors.New("a list in it holds something else than strings")
			}
			all = append(all, "("+one.Value+")")
		}
		if len(all) > 0 {
			any = append(any, "("+strings.Join(all, " and ")+")")
		}
	}
	return strings.Join(any, " or "), nil
}

// Sample writes a policy.yaml with every rule at its default, commented out.
func Sample(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Who may do what: oslo.policy's rules with Cinder's names and defaults. A rule that is\n" +
		"# uncommented here takes the place of its default. `vmthunder policy sample` writes this file.\n" +
		"#\n" +
		"# Where a rule has an older default, who satisfies either is allowed, unless\n" +
		"# [oslo_policy] enforce_new_defaults is set. Rules that refer to others:\n\n")
	for _, r := range Aliases() {
		fmt.Fprintf(&b, "#\"%s\": \"%s\"\n", r.Name, r.Check)
	}
	for _, r := range Rules() {
		b.WriteString("\n")
		for op := range strings.SplitSeq(r.For, "; ") {
			if op != "" {
				fmt.Fprintf(&b, "# %s\n", op)
			}
		}
		if r.Old != "" && r.Old != anybody {
			fmt.Fprintf(&b, "# Older default: %s\n", r.Old)
		} else if r.Old == anybody {
			b.WriteString("# Older default: everybody\n")
		}
		if r.Was != "" {
			fmt.Fprintf(&b, "# Older name: %s\n", r.Was)
		}
		fmt.Fprintf(&b, "#\"%s\": \"%s\"\n", r.Name, r.Check)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
