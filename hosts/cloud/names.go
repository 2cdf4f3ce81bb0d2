package cloud

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MadeTag stands on whatever refit makes.
const MadeTag = "refit"

// Purpose is what refit made something for.
type Purpose string

// The purposes.
const (
	// ForUndo is a snapshot from before an upgrade.
	ForUndo Purpose = "snapshot"
	// ForBirth is an image that new nodes are made from.
	ForBirth Purpose = "golden"
	// ForRehearsal is gone when its rehearsal is over.
	ForRehearsal Purpose = "rehearsal"
	// ForReplacement is a node that takes another's place or stands beside it.
	ForReplacement Purpose = "replacement"
)

// unfit is what a tag may not hold: letters, digits, colon, dash and underscore may
// stand in one (official description, Tags).
var unfit = regexp.MustCompile(`[^A-Za-z0-9:_-]`)

// word is text in the form that tags allow.
func word(text string) string { return unfit.ReplaceAllString(text, "-") }

// FleetTag stands on whatever refit made for that fleet.
func FleetTag(fleet string) string { return "refit:fleet:" + word(fleet) }

// PurposeTag says what it was made for.
func PurposeTag(p Purpose) string { return "refit:kind:" + string(p) }

// RunTag names the run that made it.
func RunTag(run string) string { return "refit:run:" + word(run) }

// TierTag names the tier that it is of.
func TierTag(tier string) string { return "refit:tier:" + word(tier) }

// HostTag names the host whose disk it was made of: a machine made from it shows that
// host's ssh key when it is met first.
func HostTag(host string) string { return "refit:host:" + word(host) }

// ReleaseTag names the release that it has.
func ReleaseTag(release string) string { return "refit:release:" + word(release) }

// ExpiryPrefix begins the tags that say until when something is needed.
const ExpiryPrefix = "refit:expires:"

// ExpiryTag says until when it is needed, to the second.
func ExpiryTag(at time.Time) string { return ExpiryPrefix + strconv.FormatInt(at.Unix(), 10) }

// Expiry reads the tag of that kind, if there is one.
func Expiry(tags []string) (time.Time, bool) {
	for _, t := range tags {
		if text, ok := strings.CutPrefix(t, ExpiryPrefix); ok {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				return time.Unix(n, 0).UTC(), true
			}
		}
	}
	return time.Time{}, false
}

// Ours tells whether refit made it, for that fleet and that purpose: what is not ours in
// all three is never deleted.
func Ours(tags []string, fleet string, p Purpose) bool {
	for _, t := range []string{MadeTag, FleetTag(fleet), PurposeTag(p)} {
		if !slices.Contains(tags, t) {
			return false
		}
	}
	return true
}

// Marks are the tags of something that refit makes.
func Marks(fleet string, p Purpose, run string, more ...string) []string {
	return append([]string{MadeTag, FleetTag(fleet), PurposeTag(p), RunTag(run)}, more...)
}

// SnapshotName is the name of the snapshot of a host before a run; by it the snapshot is
// found again.
func SnapshotName(fleet, run, host string) string {
	return fmt.Sprintf("refit-%s-%s-%s", fleet, run, host)
}

// GoldenName is the name of a tier's image after a run.
func GoldenName(fleet, run, tier, release string) string {
	return fmt.Sprintf("refit-%s-golden-%s-%s-%s", fleet, tier, release, run)
}

// BirthName is the name of the firewall under which a run's new nodes are born.
func BirthName(fleet, run string) string { return birthPrefix(fleet) + run + birthSuffix }

// BirthRun is the run in a firewall's name, if that is one of BirthName's for that fleet.
// The fleet's name ends where the run's begins, which is with its date.
func BirthRun(fleet, name string) (run string, ok bool) {
	run, ours := strings.CutPrefix(name, birthPrefix(fleet))
	run, ends := strings.CutSuffix(run, birthSuffix)
	return run, ours && ends && runForm.MatchString(run)
}

const birthSuffix = "-birth"

func birthPrefix(fleet string) string { return "refit-" + word(fleet) + "-" }

// runForm is a run's ID.
var runForm = regexp.MustCompile(`^[0-9]{8}-[0-9]{6}-[a-z0-9]+$`)
