package dm

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

// Number returns the number of the block device at path, which may be a link or
// in the form major:minor itself. A missing one is driver.ErrNotFound.
func Number(path string) (DevNumber, error) {
	if d, ok := parseNumber(path); ok {
		return d, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if err == unix.ENOENT || err == unix.ENOTDIR {
			return DevNumber{}, fmt.Errorf("device %s: %w: %w", path, err, driver.ErrNotFound)
		}
		return DevNumber{}, fmt.Errorf("device %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return DevNumber{}, fmt.Errorf("%s is not a block device", path)
	}
	return devNumber(st.Rdev), nil
}

// parseNumber reads major:minor.
func parseNumber(s string) (DevNumber, bool) {
	var d DevNumber
	var rest string
	n, _ := fmt.Sscanf(s, "%d:%d%s", &d.Major, &d.Minor, &rest)
	return d, n == 2 && d.String() == s
}

// SplitParams takes a target's parameters apart as the kernel does: at blanks,
// with a backslash before what would be taken for something else.
func SplitParams(s string) []string {
	var out []string
	var cur strings.Builder
	started := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			cur.WriteByte(s[i])
			started = true
		case c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r':
			if started {
				out = append(out, cur.String())
				cur.Reset()
				started = false
			}
		default:
			cur.WriteByte(c)
			started = true
		}
	}
	if started {
		out = append(out, cur.String())
	}
	return out
}

// escape is what SplitParams undoes, for a device path.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t").Replace(path)
}

// Same tells whether two tables make the same device: same targets with the same
// parameters, where a device may be written as a path in one and as major:minor
// in the other. number finds a path's number ([Number]). The parameters of a
// flashcache target aren't compared, because the module does not give back what it was given.
func Same(a, b driver.Table, number func(path string) (DevNumber, error)) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.Start != y.Start || x.Length != y.Length || x.Type != y.Type {
			return false, nil
		}
		if x.Type == "flashcache" {
			continue
		}
		p, err := normal(x.Params, number)
		if err != nil {
			return false, err
		}
		q, err := normal(y.Params, number)
		if err != nil {
			return false, err
		}
		if !slices.Equal(p, q) {
			return false, nil
		}
	}
	return true, nil
}

// normal splits params and replaces the paths among them by numbers.
func normal(params string, number func(string) (DevNumber, error)) ([]string, error) {
	fields := SplitParams(params)
	for i, f := range fields {
		if strings.HasPrefix(f, "/") {
			d, err := number(f)
			if err != nil {
				return nil, err
			}
			fields[i] = d.String()
		}
	}
	return fields, nil
}

// checkTable refuses what the kernel would refuse with less words.
func checkTable(t driver.Table) error {
	if len(t) == 0 {
		return fmt.Errorf("empty table")
	}
	var at uint64
	for i, s := range t {
		if s.Start != at || s.Length == 0 {
			return fmt.Errorf("target %d (%s) is from sector %d for %d, expected one from %d", i, s.Type, s.Start, s.Length, at)
		}
		at += s.Length
	}
	return nil
}

// checkName refuses names that can't be a file name in /dev/mapper.
func checkName(name string) error {
	if name == "" || len(name) >= nameLen || name == "control" || name[0] == '.' || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("device-mapper: %q can't be a device's name", name)
	}
	return nil
}
