package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// compiler turns texts into conditions.
type compiler struct {
	rules map[string]check
	refs  map[string][]string // rule → rules that it refers to
	where map[string]string   // rule → where it was overridden
}

func (c *compiler) add(name, text, where string) error {
	f, refs, err := parse(text, where != "")
	if err != nil {
		return fmt.Errorf("%s: rule %q: %w", where, name, err)
	}
	c.rules[name], c.refs[name] = f, refs
	if where != "" {
		c.where[name] = where
	}
	return nil
}

// New compiles Cinder's defaults and the overrides. It refuses an override that does not
// parse, that is of no rule, that refers to none, or that goes round in a circle: each
// error says where and why.
func New(o Options) (*Enforcer, error) {
	c := &compiler{rules: map[string]check{}, refs: map[string][]string{}, where: map[string]string{}}
	all := append(Aliases(), Rules()...)
	var errs []error
	for _, r := range all {
		errs = append(errs, c.add(r.Name, r.text(o.NewDefaults), ""))
	}
	given := map[string]Override{}
	for _, f := range o.Overrides {
		if before, twice := given[f.Name]; twice {
			errs = append(errs, fmt.Errorf("%s: rule %q is there already, at %s", f.Where, f.Name, before.Where))
			continue
		}
		given[f.Name] = f
		errs = append(errs, c.add(f.Name, f.Check, f.Where))
	}
	for _, r := range all {
		old, under := given[r.Was]
		if _, itself := given[r.Name]; r.Was == "" || !under || itself || old.Check == "rule:"+r.Name {
			continue
		}
		errs = append(errs, c.add(r.Name, old.Check, old.Where))
	}
	for _, f := range o.Overrides {
		errs = append(errs, c.resolve(f, all))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Enforcer{rules: c.rules}, nil
}

// text is the check of a rule that is not overridden.
func (r Rule) text(newDefaults bool) string {
	if r.Old == "" || newDefaults {
		return r.Check
	}
	return "(" + r.Check + ") or (" + r.Old + ")"
}

// resolve checks what an override refers to, and that somebody asks for it.
func (c *compiler) resolve(f Override, all []Rule) error {
	for _, ref := range c.refs[f.Name] {
		if _, ok := c.rules[ref]; !ok {
			return fmt.Errorf("%s: rule %q refers to rule %q, which is not there", f.Where, f.Name, ref)
		}
	}
	if round := c.circle(f.Name, nil); round != nil {
		return fmt.Errorf("%s: rule %q goes round in a circle: %s", f.Where, f.Name, strings.Join(round, " → "))
	}
	if slices.ContainsFunc(all, func(r Rule) bool { return r.Name == f.Name || r.Was == f.Name }) || c.referred(f.Name) {
		return nil
	}
	return fmt.Errorf("%s: there is no rule %q, and no other rule refers to it; etc/vmthunder/policy.yaml lists all", f.Where, f.Name)
}

func (c *compiler) referred(name string) bool {
	for _, refs := range c.refs {
		if slices.Contains(refs, name) {
			return true
		}
	}
	return false
}

// circle is the way from a rule round in a circle, nil if there is none. Way is how the
// rule was come to.
func (c *compiler) circle(name string, way []string) []string {
	again := slices.Contains(way, name)
	way = append(slices.Clone(way), name)
	if again {
		return way
	}
	for _, ref := range c.refs[name] {
		if round := c.circle(ref, way); round != nil {
			return round
		}
	}
	return nil
}
