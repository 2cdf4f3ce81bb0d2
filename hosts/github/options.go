package github

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Defaults of Options.
const (
	DefaultBaseURL  = "https://api.github.com/"
	DefaultAnswer   = 30 * time.Second
	DefaultPatience = 2 * time.Minute
)

// maxBody bounds what is read of one answer, in bytes. A page of a hundred
// releases whose notes are as long as GitHub allows (125,000 characters) stays
// below it.
const maxBody = 64 << 20

// Options say whom to ask and how long.
type Options struct {
	// Token is sent as a bearer token; "" asks without one, under the limit of
	// 60 requests an hour that all who share the address share. White space
	// around it is cut off, since tokens come out of files.
	Token string
	// BaseURL is where the API is; "" is DefaultBaseURL. With a token it must be
	// https, or an address of this machine or of a private network.
	BaseURL string
	// Transport carries the requests; nil is a copy of http.DefaultTransport,
	// which heeds HTTPS_PROXY.
	Transport http.RoundTripper
	// UserAgent is what GitHub sees, which refuses requests without any;
	// "" is "refit".
	UserAgent string
	// Answer bounds one answer, from dialling to the last byte of its body;
	// 0 is DefaultAnswer.
	Answer time.Duration
	// Patience bounds how long one call waits for GitHub to mend, all its
	// requests and pauses together; 0 is DefaultPatience. A limit that ends
	// within it is waited for, any other is an error at once. A call may last
	// longer by one Answer.
	Patience time.Duration
}

// Client asks one GitHub. It may be used by several goroutines at once.
type Client struct {
	http     http.Client
	base     *url.URL
	token    string
	agent    string
	answer   time.Duration
	patience time.Duration

	mu      sync.Mutex
	held    Error // why nothing is sent before its Until; the zero value if there is no reason
	strikes int   // refusals in a row that named no time
}

// New makes a client; it asks nothing yet. Errors never hold the token.
func New(opts Options) (*Client, error) {
	base, err := parseBase(opts.BaseURL)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(opts.Token)
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the GitHub token holds white space or characters that no token has; give the token alone")
	}
	if token != "" && base.Scheme != "https" && !nearby(base.Hostname()) {
		return nil, fmt.Errorf("a GitHub token would go to %s unencrypted; use https", base.Host)
	}
	transport := opts.Transport
	if transport == nil {
		t, ok := http.DefaultTransport.(*http.Transport)
		if !ok {
			return nil, errors.New("http.DefaultTransport was replaced; give the transport to use for GitHub")
		}
		transport = t.Clone()
	}
	return &Client{
		http:     http.Client{Transport: bounded{transport}, CheckRedirect: stay},
		base:     base,
		token:    token,
		agent:    orElse(opts.UserAgent, "refit"),
		answer:   orElse(opts.Answer, DefaultAnswer),
		patience: orElse(opts.Patience, DefaultPatience),
	}, nil
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// stay makes the redirect itself the answer.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(orElse(s, DefaultBaseURL))
	if err != nil {
		return nil, errors.New("the address of GitHub's API is no URL") // the parse error would repeat it, with what stands in it
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return nil, fmt.Errorf("the address of GitHub's API must be https://HOST/, and is %s", u.Redacted())
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the address of GitHub's API must be a host and a path alone, and is %s", u.Redacted())
	}
	if !strings.HasSuffix(u.Path, "/") { // go-github insists on it
		u.Path += "/"
	}
	return u, nil
}

// nearby tells whether a host is this machine or an address of a private
// network, where a lab serves its own GitHub.
func nearby(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && (ip.IsLoopback() || ip.IsPrivate()))
}
