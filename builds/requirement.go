package builds

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Requirement is a Gemfile's requirement of Ruby: every part must hold.
// Empty allows all.
type Requirement []string

// String is the requirement as a Gemfile writes it.
func (r Requirement) String() string { return strings.Join(r, ", ") }

var rubyPart = regexp.MustCompile(`^(>=|<=|~>|!=|=|>|<)?\s*(\d+(?:\.\d+)*)$`)

// Allows tells whether a Ruby of that version satisfies the requirement.
func (r Requirement) Allows(version string) (bool, error) {
	v, err := semver.NewVersion(version)
	if err != nil {
		return false, fmt.Errorf("%q is no version: %w", version, err)
	}
	for _, part := range r {
		c, err := constraint(part)
		if err != nil {
			return false, err
		}
		if !c.Check(v) {
			return false, nil
		}
	}
	return true, nil
}

// constraint translates one part. RubyGems' "~> 3.2" means ">= 3.2, < 4" and
// "~> 3.2.1" means ">= 3.2.1, < 3.3": the last number may rise. That is not
// what semver's "~" means.
func constraint(part string) (*semver.Constraints, error) {
	m := rubyPart.FindStringSubmatch(strings.TrimSpace(part))
	if m == nil {
		return nil, fmt.Errorf("cannot read the ruby requirement %q", part)
	}
	op, nums := m[1], strings.Split(m[2], ".")
	full := strings.Join(pad(nums), ".")
	text := op + " " + full
	if op == "~>" {
		if len(nums) < 2 {
			return nil, fmt.Errorf("cannot read the ruby requirement %q: one number is too few", part)
		}
		up := append([]string(nil), nums[:len(nums)-1]...)
		last, err := strconv.Atoi(up[len(up)-1])
		if err != nil {
			return nil, fmt.Errorf("cannot read the ruby requirement %q: %w", part, err)
		}
		up[len(up)-1] = strconv.Itoa(last + 1)
		text = ">= " + full + ", < " + strings.Join(pad(up), ".")
	}
	c, err := semver.NewConstraint(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read the ruby requirement %q: %w", part, err)
	}
	return c, nil
}

// pad fills up to three numbers, so that nothing reads "3.2" as "3.2.x".
func pad(nums []string) []string {
	out := append([]string(nil), nums...)
	for len(out) < 3 {
		out = append(out, "0")
	}
	return out[:3]
}
