package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"vmst.io/refit/builds/policy"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/github"
)

// watchConfig is how upstream is watched.
type watchConfig struct {
	Every time.Duration `yaml:"every"`
	// Feed is Mastodon's update check; "none" asks nobody.
	Feed string `yaml:"feed"`
	// Stay is a series that the fleet does not leave, "4.6".
	Stay string `yaml:"stay"`
	// PreReleases count too.
	PreReleases bool `yaml:"pre_releases"`
	// Alarm is how long a source may fail before people are told.
	Alarm time.Duration `yaml:"alarm"`
	// State is the folder of what is remembered; empty for one beside the journals' copies.
	State string `yaml:"state"`
	// Listen is where the page and /metrics are served; empty for nowhere.
	Listen string `yaml:"listen"`
	// Expose lets Listen be an address that other machines reach.
	Expose bool `yaml:"expose"`
}

// policyConfig is what becomes of a release.
type policyConfig struct {
	Security   policy.Act     `yaml:"security"`
	Patch      policy.Act     `yaml:"patch"`
	Minor      policy.Act     `yaml:"minor"`
	PreRelease policy.Act     `yaml:"pre_release"`
	Windows    []windowConfig `yaml:"windows"`
	Zone       string         `yaml:"zone"`
	Settle     time.Duration  `yaml:"settle"`
	Deadline   time.Duration  `yaml:"deadline"`
	// SecurityOvertakes: a security release waits neither for a window nor to settle.
	SecurityOvertakes bool `yaml:"security_overtakes"`
}

type windowConfig struct {
	Days []string `yaml:"days"`
	From string   `yaml:"from"`
	To   string   `yaml:"to"`
}

// flingConfig is another project, whose releases are announced.
type flingConfig struct {
	Name        string `yaml:"name"`
	Repository  string `yaml:"repository"`
	PreReleases bool   `yaml:"pre_releases"`
}

func defaultPolicy() policyConfig {
	p := policy.Default()
	return policyConfig{
		Security: p.Act(policy.Security), Patch: p.Act(policy.Patch), Minor: p.Act(policy.Minor), PreRelease: p.Act(policy.Prerelease),
		Zone: "UTC", Settle: p.Settle, Deadline: p.Deadline, SecurityOvertakes: p.Overtake,
	}
}

// policy is the policy that was written down. It cannot fail once the file was checked.
func (c config) policy() (policy.Policy, error) {
	zone, err := time.LoadLocation(c.Policy.Zone)
	if err != nil {
		return policy.Policy{}, fmt.Errorf("policy.zone: %w", err)
	}
	p := policy.Policy{
		Acts: map[policy.Kind]policy.Act{
			policy.Security: c.Policy.Security, policy.Patch: c.Policy.Patch, policy.Minor: c.Policy.Minor, policy.Prerelease: c.Policy.PreRelease,
		},
		Zone: zone, Settle: c.Policy.Settle, Deadline: c.Policy.Deadline, Overtake: c.Policy.SecurityOvertakes,
	}
	for _, w := range c.Policy.Windows {
		window, err := policy.ParseWindow(w.Days, w.From, w.To)
		if err != nil {
			return p, fmt.Errorf("policy.windows: %w", err)
		}
		p.Windows = append(p.Windows, window)
	}
	return p, nil
}

// check names the part that is wrong.
func (c windowConfig) check(w *wrongs, at string) {
	for _, day := range c.Days {
		if _, err := policy.ParseWindow([]string{day}, "00:00", "01:00"); err != nil {
			w.say(at+".days", "%v", err)
			return
		}
	}
	if _, err := policy.ParseClock(c.From); err != nil {
		w.say(at+".from", "%v", err)
		return
	}
	if _, err := policy.ParseWindow(nil, c.From, c.To); err != nil {
		w.say(at+".to", "%v", err)
	}
}

// line is what of upstream's releases is followed.
func (c config) line() upstream.Line {
	return upstream.Line{Stay: c.Watch.Stay, Early: c.Watch.PreReleases}
}

var minorSeries = regexp.MustCompile(`^\d{1,3}\.\d{1,3}$`)

// leastPause spares GitHub: without a token it answers 60 requests an hour.
const leastPause = time.Minute

// fewQuestions says that GitHub will not answer all questions of an hour, empty if it will:
// of who has no token it counts those too whose answer is that nothing changed.
func (c config) fewQuestions() string {
	const free, mastodon, fling = 60, 6, 1 // an hour; a look's: pages of the list and tags
	if c.Upstream.Token != nil {
		return ""
	}
	each := mastodon + fling*len(c.Flings)
	if hour := int(time.Hour/c.Watch.Every) * each; hour <= free {
		return ""
	}
	least := (time.Hour * time.Duration(each) / free).Round(time.Minute)
	return fmt.Sprintf("GitHub answers who has no token %d questions an hour, and about %d are asked at each look: set upstream.token (it needs no scope), or watch.every to %s or more", free, each, least)
}

func (c config) checkUpstream(w *wrongs) {
	u := c.Upstream
	if u.GitHub != "" {
		if _, err := github.ParseRepo(u.GitHub); err != nil {
			w.say("upstream.github", "%v", err)
		}
	}
	if u.API != "" && !isURL(u.API, "https", "http") {
		w.say("upstream.api", "%q is no URL such as %s", u.API, github.DefaultBaseURL)
	}
	u.Token.check(w, "upstream.token")
	watch := c.Watch
	if watch.Every < leastPause {
		w.say("watch.every", "%s is less than a minute: upstream publishes a few times a month", watch.Every)
	}
	if watch.Alarm < watch.Every {
		w.say("watch.alarm", "%s is less than watch.every: one look that fails would be an alarm", watch.Alarm)
	}
	if watch.Feed != "none" && !isURL(watch.Feed, "https", "http") {
		w.say("watch.feed", "%q is neither a URL nor none", watch.Feed)
	}
	if watch.Stay != "" && !minorSeries.MatchString(watch.Stay) {
		w.say("watch.stay", "%q is no series such as \"4.6\" (in quotes)", watch.Stay)
	}
	if watch.Listen != "" {
		if err := listenable(watch.Listen, watch.Expose, "watch.expose: true"); err != nil {
			w.say("watch.listen", "%v", err)
		}
	} else if watch.Expose {
		w.say("watch.expose", "is true, and there is no watch.listen that it could speak of")
	}
}

func (c config) checkPolicy(w *wrongs) {
	for field, act := range map[string]policy.Act{
		"policy.security": c.Policy.Security, "policy.patch": c.Policy.Patch, "policy.minor": c.Policy.Minor, "policy.pre_release": c.Policy.PreRelease,
	} {
		if !slices.Contains(policy.Acts(), act) {
			w.say(field, "%q is none of %v", act, policy.Acts())
		}
	}
	if _, err := time.LoadLocation(c.Policy.Zone); err != nil {
		w.say("policy.zone", "%q is no time zone such as Europe/Berlin, or this machine does not know it", c.Policy.Zone)
	}
	for i, one := range c.Policy.Windows {
		one.check(w, "policy.windows["+strconv.Itoa(i)+"]")
	}
	for field, d := range map[string]time.Duration{"policy.settle": c.Policy.Settle, "policy.deadline": c.Policy.Deadline} {
		if d < 0 {
			w.say(field, "%s is negative", d)
		}
	}
	names := map[string]bool{"Mastodon": true}
	for i, f := range c.Flings {
		at := "flings[" + strconv.Itoa(i) + "]"
		if f.Name == "" || names[f.Name] {
			w.say(at+".name", "%q is missing, or stands there twice", f.Name)
		}
		names[f.Name] = true
		if _, err := github.ParseRepo(f.Repository); err != nil {
			w.say(at+".repository", "%v", err)
		}
	}
}
