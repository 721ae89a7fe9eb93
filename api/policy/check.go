package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/api/keystone"
)

// subject is one question: may who do it to target?
type subject struct {
	who    keystone.Identity
	target Target
	rules  map[string]check
}

// check is a rule's condition.
type check func(s *subject) bool

func yes(*subject) bool { return true }
func no(*subject) bool  { return false }

// parser reads oslo.policy's language (oslo_policy/_parser.py): checks of the form
// kind:match, "@" (always) and "!" (never), joined by and, or, not and parentheses.
type parser struct {
	words []string
	at    int
	// strict: what no caller and no target has is an error, not a condition that never holds.
	strict bool
	refs   []string // rules that are referred to
}

// parse returns the condition that a text says, and the rules it refers to.
func parse(text string, strict bool) (check, []string, error) {
	p := &parser{words: split(text), strict: strict}
	if len(p.words) == 0 {
		return yes, nil, nil // as in oslo.policy
	}
	c, err := p.or()
	if err == nil && p.at < len(p.words) {
		err = fmt.Errorf("%q is not expected there", p.words[p.at])
	}
	return c, p.refs, err
}

// split cuts parentheses off the ends of words; those within belong to the word: %(project_id)s.
func split(text string) []string {
	var out []string
	for _, w := range strings.Fields(text) {
		for strings.HasPrefix(w, "(") {
			out, w = append(out, "("), w[1:]
		}
		n := len(w) - len(strings.TrimRight(w, ")"))
		if w = w[:len(w)-n]; w != "" {
			out = append(out, w)
		}
		for range n {
			out = append(out, ")")
		}
	}
	return out
}

// next takes the word if it is the next one.
func (p *parser) next(word string) bool {
	if p.at < len(p.words) && strings.EqualFold(p.words[p.at], word) {
		p.at++
		return true
	}
	return false
}

func (p *parser) or() (check, error) {
	left, err := p.and()
	for err == nil && p.next("or") {
		var right check
		first := left
		if right, err = p.and(); err == nil {
			left = func(s *subject) bool { return first(s) || right(s) }
		}
	}
	return left, err
}

func (p *parser) and() (check, error) {
	left, err := p.not()
	for err == nil && p.next("and") {
		var right check
		first := left
		if right, err = p.not(); err == nil {
			left = func(s *subject) bool { return first(s) && right(s) }
		}
	}
	return left, err
}

func (p *parser) not() (check, error) {
	negated := false
	for p.next("not") {
		negated = !negated
	}
	c, err := p.one()
	if err != nil || !negated {
		return c, err
	}
	return func(s *subject) bool { return !c(s) }, nil
}

func (p *parser) one() (check, error) {
	if p.next("(") {
		c, err := p.or()
		if err == nil && !p.next(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return c, err
	}
	if p.at == len(p.words) {
		return nil, errors.New("it ends where a check is expected")
	}
	word := p.words[p.at]
	if slices.Contains([]string{")", "and", "or"}, strings.ToLower(word)) {
		return nil, fmt.Errorf("%q stands where a check is expected", word)
	}
	p.at++
	return p.word(word)
}

func (p *parser) word(word string) (check, error) {
	switch word {
	case "@":
		return yes, nil
	case "!":
		return no, nil
	}
	kind, match, ok := strings.Cut(word, ":")
	if !ok || kind == "" {
		return nil, fmt.Errorf("%q is no check of the form kind:match", word)
	}
	if kind == "rule" {
		p.refs = append(p.refs, match)
		return func(s *subject) bool {
			c, ok := s.rules[match]
			return ok && c(s)
		}, nil
	}
	if kind == "http" || kind == "https" {
		return nil, fmt.Errorf("%q: checks by HTTP are not supported", word)
	}
	value, err := p.value(match)
	if err != nil {
		return nil, err
	}
	if kind == "role" {
		return func(s *subject) bool {
			v, ok := value(s)
			return ok && slices.ContainsFunc(s.who.Roles, func(r string) bool { return strings.EqualFold(r, v) })
		}, nil
	}
	have, ok := attribute(kind)
	if !ok && p.strict {
		return nil, fmt.Errorf("%q: nobody has an attribute %s; there are role, rule, %s", word, kind, strings.Join(attributes(), ", "))
	}
	return func(s *subject) bool {
		v, given := value(s)
		return given && slices.Contains(have(s.who), v)
	}, nil
}

// value is the right side of a check: a text, or %(name)s of the target.
func (p *parser) value(match string) (func(*subject) (string, bool), error) {
	name, ok := strings.CutPrefix(match, "%(")
	if !ok {
		if strings.Contains(match, "%") {
			return nil, fmt.Errorf("%q has a %% that is not at its beginning", match)
		}
		return func(*subject) (string, bool) { return match, true }, nil
	}
	name, ok = strings.CutSuffix(name, ")s")
	if !ok {
		return nil, fmt.Errorf("%q is not of the form %%(name)s", match)
	}
	switch name {
	case "project_id", "tenant_id":
		return func(s *subject) (string, bool) { return s.target.ProjectID, s.target.ProjectID != "" }, nil
	case "user_id":
		return func(s *subject) (string, bool) { return s.target.UserID, s.target.UserID != "" }, nil
	}
	if p.strict && name != "domain_id" { // which is in one of Cinder's defaults
		return nil, fmt.Errorf("%q: a target has no attribute %s; there are project_id and user_id", match, name)
	}
	return func(*subject) (string, bool) { return "", false }, nil
}

// attributes of a caller that a check may compare.
func attributes() []string {
	return []string{
		"user_id", "project_id", "tenant_id", "user_domain_id", "project_domain_id", "domain_id", "system_scope", "is_admin",
		"is_admin_project", "roles",
	}
}

// attribute returns what a caller has of a kind; ok is false for a kind that nobody has.
// A quoted word, a number, True, False and None stand for themselves.
func attribute(kind string) (have func(keystone.Identity) []string, ok bool) {
	text := func(of func(keystone.Identity) string) (func(keystone.Identity) []string, bool) {
		return func(id keystone.Identity) []string {
			if s := of(id); s != "" { // what is not there equals nothing
				return []string{s}
			}
			return nil
		}, true
	}
	switch kind {
	case "user_id":
		return text(func(id keystone.Identity) string { return id.UserID })
	case "project_id", "tenant_id":
		return text(func(id keystone.Identity) string { return id.ProjectID })
	case "user_domain_id":
		return text(func(id keystone.Identity) string { return id.UserDomainID })
	case "project_domain_id":
		return text(func(id keystone.Identity) string { return id.DomainID })
	case "domain_id":
		return text(func(id keystone.Identity) string { return id.ScopeDomainID })
	case "system_scope":
		return text(func(id keystone.Identity) string { return id.SystemScope })
	case "is_admin":
		return text(func(id keystone.Identity) string { return map[bool]string{true: "True", false: "False"}[id.Admin] })
	case "is_admin_project": // Keystone says so of every project, unless it is told otherwise
		return text(func(keystone.Identity) string { return "True" })
	case "roles":
		return func(id keystone.Identity) []string { return id.Roles }, true
	}
	literal := kind
	if n := len(kind); n >= 2 && (kind[0] == '\'' || kind[0] == '"') && kind[n-1] == kind[0] {
		literal = kind[1 : n-1]
	} else if _, err := strconv.Atoi(kind); err != nil && !slices.Contains([]string{"True", "False", "None"}, kind) {
		return func(keystone.Identity) []string { return nil }, false
	}
	return func(keystone.Identity) []string { return []string{literal} }, true
}
