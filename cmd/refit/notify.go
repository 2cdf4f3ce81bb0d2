package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// notifyConfig is who is told of runs and releases.
type notifyConfig struct {
	Slack *slackConfig `yaml:"slack"`
	Kuma  *kumaConfig  `yaml:"kuma"`
}

type slackConfig struct {
	Channel  string        `yaml:"channel"`
	Token    *secretConfig `yaml:"token"`
	Webhook  *secretConfig `yaml:"webhook"`
	Deadline time.Duration `yaml:"deadline"`
	API      string        `yaml:"api"`
}

type kumaConfig struct {
	URL *secretConfig `yaml:"url"`
}

type metricsConfig struct {
	Textfile string `yaml:"textfile"`
}

// secretConfig names where a secret is kept: a file, or a variable of the
// environment.
type secretConfig struct {
	File string `yaml:"file"`
	Env  string `yaml:"env"`
}

var (
	// A channel's ID: Slack looks through the history of no channel by its name.
	channelID = regexp.MustCompile(`^[CG][A-Z0-9]{6,20}$`)
	envName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// leastDeadline is less than Slack itself asks to be left alone for.
const leastDeadline = time.Minute

func (c config) checkNotify(w *wrongs) {
	if s := c.Notify.Slack; s != nil {
		switch {
		case s.Token == nil && s.Webhook == nil:
			w.say("notify.slack", "names neither a token nor a webhook")
		case s.Token != nil && s.Webhook != nil:
			w.say("notify.slack", "names a token and a webhook: the token does all that a webhook does, and more")
		case s.Token != nil && !channelID.MatchString(s.Channel):
			w.say("notify.slack.channel", "%q is no channel's ID such as C0123456789: in Slack, the channel's name, About, at the bottom", s.Channel)
		case s.Webhook != nil && s.Channel != "":
			w.say("notify.slack.channel", "%q: a webhook has its own channel", s.Channel)
		}
		s.Token.check(w, "notify.slack.token")
		s.Webhook.check(w, "notify.slack.webhook")
		if s.Deadline != 0 && s.Deadline < leastDeadline {
			w.say("notify.slack.deadline", "%s is less than a minute, for which Slack may want to be left alone", s.Deadline)
		}
		if s.API != "" && (!isURL(s.API, "https", "http") || !strings.HasSuffix(s.API, "/")) {
			w.say("notify.slack.api", "%q is no URL such as https://slack.com/api/", s.API)
		}
	}
	if k := c.Notify.Kuma; k != nil {
		if k.URL == nil {
			w.say("notify.kuma.url", "is missing")
		}
		k.URL.check(w, "notify.kuma.url")
	}
	if f := c.Metrics.Textfile; f != "" && (!filepath.IsAbs(f) || filepath.Clean(f) != f || !strings.HasSuffix(f, ".prom")) {
		w.say("metrics.textfile", "%q is not a clean absolute path that ends in .prom, as node_exporter wants it", f)
	}
}

// check never says what stands there: it may be the secret itself.
func (s *secretConfig) check(w *wrongs, field string) {
	switch {
	case s == nil:
	case s.File == "" && s.Env == "":
		w.say(field, "names neither a file nor an env")
	case s.File != "" && s.Env != "":
		w.say(field, "names a file and an env: which?")
	case s.Env != "" && !envName.MatchString(s.Env):
		w.say(field+".env", "is no variable's name; if it is the secret itself, put that into the environment, or into a file")
	case strings.HasPrefix(s.File, "xox") || strings.Contains(s.File, "://"):
		w.say(field+".file", "is no path; if it is the secret itself, put that into a file")
	}
}

// secret reads a secret from where it is kept. Its errors hold none of it; known is
// what is to be known although it could be read.
func (c config) secret(s *secretConfig, what string) (text, known string, err error) {
	if s.Env != "" {
		if text = strings.TrimSpace(os.Getenv(s.Env)); text == "" {
			return "", "", fmt.Errorf("%s: the environment has no %s, or an empty one", what, s.Env)
		}
		return text, "", nil
	}
	path, err := c.path(s.File)
	if err != nil {
		return "", "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", what, err)
	}
	text = strings.TrimSpace(string(b))
	if text == "" || strings.ContainsAny(text, " \t\r\n") {
		return "", "", fmt.Errorf("%s: %s must hold the secret alone, in one line", what, path)
	}
	if info, err := os.Stat(path); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		known = fmt.Sprintf("%s: others on this machine can read it: chmod 600 %s", what, path)
	}
	return text, known, nil
}
