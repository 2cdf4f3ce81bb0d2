package cloud

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/godo"
)

// Defaults of Options.
const (
	DefaultAPI      = "https://api.digitalocean.com/"
	DefaultAnswer   = 30 * time.Second
	DefaultPatience = 2 * time.Minute
	// DefaultTurn is as long as a weekly backup of a node may take, which is an action too.
	DefaultTurn = 90 * time.Minute
	// DefaultBirth is far longer than a droplet takes to boot from a snapshot of its own region.
	DefaultBirth = 15 * time.Minute
)

// Options say whose account it is and how long is waited.
type Options struct {
	// Token is sent as a bearer token to the host of API and to no other.
	Token string
	// API is where the API is; "" is DefaultAPI. It must be https, or an address of this
	// machine or of a private network.
	API string
	// UserAgent is what the provider sees, such as "refit/v1.2.3"; "" is "refit".
	UserAgent string
	// Transport carries the requests; nil is a copy of http.DefaultTransport.
	Transport http.RoundTripper
	// Answer bounds one answer, from dialling to its last byte; 0 is DefaultAnswer.
	Answer time.Duration
	// Patience bounds how long a read is asked again, the effect of a write is looked for
	// whose answer was lost, a limit of requests is waited for, and what is done is waited
	// to show; 0 is DefaultPatience.
	Patience time.Duration
	// Turn bounds how long a write waits for another's open action on the droplet; 0 is
	// DefaultTurn.
	Turn time.Duration
	// Birth bounds how long a new droplet may take until it runs; 0 is DefaultBirth.
	Birth time.Duration
	// Say is told what is waited for; nil is nobody.
	Say func(format string, args ...any)
}

// Client speaks with one account. It may be used by several goroutines at once.
type Client struct {
	api      *godo.Client
	host     string
	token    string
	answer   time.Duration
	patience time.Duration
	turn     time.Duration
	birth    time.Duration
	say      func(format string, args ...any)

	mu   sync.Mutex
	held time.Time // nothing is sent before: the limit of requests is spent
}

// New makes a client; it asks nothing yet. Errors never hold the token.
func New(o Options) (*Client, error) {
	base, err := parseAPI(cmp.Or(o.API, DefaultAPI))
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(o.Token) // tokens come out of files
	switch {
	case token == "":
		return nil, errors.New("the cloud account's token is empty: give one (cloud.token)")
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("the cloud account's token holds white space or characters that no token has; give the token alone")
	}
	carrier := o.Transport
	if carrier == nil {
		t, ok := http.DefaultTransport.(*http.Transport)
		if !ok {
			return nil, errors.New("http.DefaultTransport was replaced; give the transport to use for the cloud account")
		}
		carrier = t.Clone()
	}
	// godo.NewFromToken is not used: it sends writes again when they fail.
	api, err := godo.New(
		&http.Client{Transport: &guard{next: carrier, base: base, token: token}, CheckRedirect: stay},
		godo.SetBaseURL(base.String()), godo.SetUserAgent(cmp.Or(o.UserAgent, "refit")))
	if err != nil {
		return nil, fmt.Errorf("no client for %s: %w", base.Host, err)
	}
	c := &Client{
		api: api, host: base.Host, token: token, say: o.Say,
		answer:   cmp.Or(o.Answer, DefaultAnswer),
		patience: cmp.Or(o.Patience, DefaultPatience),
		turn:     cmp.Or(o.Turn, DefaultTurn),
		birth:    cmp.Or(o.Birth, DefaultBirth),
	}
	if c.say == nil {
		c.say = func(string, ...any) {}
	}
	return c, nil
}

// stay makes a redirect itself the answer: nothing is sent where it points.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func parseAPI(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("the address of the cloud's API is no URL") // the parse error would repeat it, with what stands in it
	}
	if u.Path == "" {
		u.Path = "/"
	}
	switch {
	case (u.Scheme != "https" && u.Scheme != "http") || u.Host == "":
		return nil, fmt.Errorf("the address of the cloud's API must be https://HOST/, and is %s", u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "/": // godo drops a path for half of its calls
		return nil, fmt.Errorf("the address of the cloud's API must be a host alone, and is %s", u.Redacted())
	case u.Scheme != "https" && !nearby(u.Hostname()):
		return nil, fmt.Errorf("the cloud account's token would go to %s unencrypted; use https", u.Host)
	}
	return u, nil
}

// nearby tells whether a host is this machine or an address of a private network, where a
// lab serves its own cloud.
func nearby(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && (ip.IsLoopback() || ip.IsPrivate()))
}
