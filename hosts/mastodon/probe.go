package mastodon

import "time"

// CheckName names one thing that a probe looks at.
type CheckName string

// The checks, in the order in which they run.
const (
	// CheckHealth: Puma answers /health. It proves that the application booted, no
	// more: without its packs it still answers.
	CheckHealth CheckName = "health"
	// CheckPage: "/" answers, and the version in its initial state is the release's.
	CheckPage CheckName = "page"
	// CheckPacks: the files that the page names answer, and those asked for.
	CheckPacks CheckName = "packs"
	// CheckDatabase: an API that reads the database answers.
	CheckDatabase CheckName = "database"
	// CheckStreaming: the streaming server's health answers.
	CheckStreaming CheckName = "streaming"
	// CheckEvent: an event published in Redis arrives on a websocket.
	CheckEvent CheckName = "event"
	// CheckLatency: a number of requests for the page, timed.
	CheckLatency CheckName = "latency"
)

// AllChecks are all of them but CheckLatency, which measures and judges nothing.
func AllChecks() []CheckName {
	return []CheckName{CheckHealth, CheckPage, CheckPacks, CheckDatabase, CheckStreaming, CheckEvent}
}

// ProbeIn says what to look at on a web node.
type ProbeIn struct {
	Layout Layout `json:"layout"`
	// Domain is the site's, sent as Host: Mastodon answers no other.
	Domain string `json:"domain"`
	// Address that Puma and streaming listen on; empty for 127.0.0.1.
	Address string `json:"address,omitempty"`
	// WebPort is Puma's, 0 for 3000; StreamingPort 0 for 4000.
	WebPort       int `json:"web_port,omitempty"`
	StreamingPort int `json:"streaming_port,omitempty"`
	// Checks wanted; nil for AllChecks.
	Checks []CheckName `json:"checks,omitempty"`
	// Release that must serve, "v4.5.15"; empty takes any.
	Release string `json:"release,omitempty"`
	// Packs are paths below / that must answer besides those that the page names.
	Packs []string `json:"packs,omitempty"`
	// TokenFile holds the probe account's access token; empty for
	// /etc/refit/probe.token.
	TokenFile string `json:"token_file,omitempty"`
	// Boot is how long processes that refuse connections are waited for before the
	// checks: they listen once they can answer. The node waits by itself, since to ask
	// it again and again takes the processor that they boot with.
	Boot time.Duration `json:"boot,omitempty"`
	// Deadline of each check; 0 for 10 seconds.
	Deadline time.Duration `json:"deadline,omitempty"`
	// Requests is how many CheckLatency makes; 0 for 20.
	Requests int `json:"requests,omitempty"`
}

// Probe is what was seen.
type Probe struct {
	Checks []Check `json:"checks"`
	// Version is that of the page's initial state, "4.5.15"; empty if not seen.
	Version string `json:"version,omitempty"`
	// Latency is CheckLatency's.
	Latency *Latency `json:"latency,omitempty"`
}

// Check is the result of one check.
type Check struct {
	Name CheckName `json:"name"`
	OK   bool      `json:"ok"`
	// Skipped says why it was not made, "no token: …"; then OK is false and it is no
	// failure either. Say it aloud.
	Skipped string        `json:"skipped,omitempty"`
	Took    time.Duration `json:"took"`
	// Detail says what was seen: "4.5.15, 12 files".
	Detail string `json:"detail,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Latency is over the answers of one path.
type Latency struct {
	Path     string        `json:"path"`
	Requests int           `json:"requests"`
	Failed   int           `json:"failed"`
	P50      time.Duration `json:"p50"`
	P95      time.Duration `json:"p95"`
	Max      time.Duration `json:"max"`
}

// Err is nil when no check failed; else it names each that did.
func (p Probe) Err() error {
	var faults []string
	for _, c := range p.Checks {
		if !c.OK && c.Skipped == "" {
			faults = append(faults, string(c.Name)+": "+c.Error)
		}
	}
	return joined(faults)
}

// NotChecked names the checks that were skipped, with the reason.
func (p Probe) NotChecked() []string {
	var out []string
	for _, c := range p.Checks {
		if c.Skipped != "" {
			out = append(out, string(c.Name)+" not checked: "+c.Skipped)
		}
	}
	return out
}

// Check returns the result of that name.
func (p Probe) Check(name CheckName) (Check, bool) {
	for _, c := range p.Checks {
		if c.Name == name {
			return c, true
		}
	}
	return Check{}, false
}

// PacksIn asks for files of a release over HTTP.
type PacksIn struct {
	Layout Layout `json:"layout"`
	// Domain, Address and WebPort as in ProbeIn.
	Domain  string `json:"domain"`
	Address string `json:"address,omitempty"`
	WebPort int    `json:"web_port,omitempty"`
	// Files are paths below /: "/packs/assets/application-abc.js".
	Files []string `json:"files,omitempty"`
	// Releases on this host whose manifests name the files as well: every hashed
	// file below public/packs and public/assets.
	Releases []string `json:"releases,omitempty"`
	// Parallel requests; 0 for 4.
	Parallel int `json:"parallel,omitempty"`
	// Deadline of each request; 0 for 10 seconds.
	Deadline time.Duration `json:"deadline,omitempty"`
}

// Packs is the answer.
type Packs struct {
	// Asked is how many files were asked for.
	Asked int `json:"asked"`
	// Failed are the first 50 that did not answer 200, More how many beyond.
	Failed []FailedPack `json:"failed,omitempty"`
	More   int          `json:"more,omitempty"`
}

// FailedPack is a file that was not served.
type FailedPack struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}
