package builds

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Version is a release's version, written with a leading v: "v4.5.15",
// "v4.6.0-rc.1". The zero Version is no version. It marshals as its text.
type Version struct{ v *semver.Version }

// oldPre is the way of writing pre-releases before 4.2 and 3.3: "4.1.0rc3", "4.2.0-rc1".
var oldPre = regexp.MustCompile(`^(\d+\.\d+\.\d+)-?(alpha|beta|rc)(\d+)$`)

// ParseVersion reads "v4.5.15" or "4.5.15". All three numbers must be there.
func ParseVersion(s string) (Version, error) {
	text := strings.TrimPrefix(strings.TrimSpace(s), "v")
	if m := oldPre.FindStringSubmatch(text); m != nil {
		text = m[1] + "-" + m[2] + "." + m[3]
	}
	v, err := semver.StrictNewVersion(text)
	if err != nil {
		return Version{}, fmt.Errorf("%q is no release version (vX.Y.Z): %w", s, err)
	}
	return Version{v}, nil
}

// String is the tag's name, with the leading v; empty for the zero Version.
func (v Version) String() string {
	if v.v == nil {
		return ""
	}
	return "v" + v.v.String()
}

// Number is the version without the leading v, as Mastodon shows it.
func (v Version) Number() string { return strings.TrimPrefix(v.String(), "v") }

// IsZero tells whether v is no version at all.
func (v Version) IsZero() bool { return v.v == nil }

// Compare returns -1, 0 or 1. A pre-release comes before its release; the zero
// Version before all.
func (v Version) Compare(o Version) int {
	switch {
	case v.v == nil && o.v == nil:
		return 0
	case v.v == nil:
		return -1
	case o.v == nil:
		return 1
	}
	return v.v.Compare(o.v)
}

// Line is the release line, "4.5".
func (v Version) Line() string {
	if v.v == nil {
		return ""
	}
	return fmt.Sprintf("%d.%d", v.v.Major(), v.v.Minor())
}

// SameLine tells whether both are of one minor line, so that a step between them is a patch.
func (v Version) SameLine(o Version) bool { return v.v != nil && v.Line() == o.Line() }

// Prerelease tells whether v is an alpha, a beta or a release candidate.
func (v Version) Prerelease() bool { return v.v != nil && v.v.Prerelease() != "" }

// MarshalText implements encoding.TextMarshaler.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; empty text is the zero Version.
func (v *Version) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*v = Version{}
		return nil
	}
	p, err := ParseVersion(string(b))
	if err != nil {
		return err
	}
	*v = p
	return nil
}
