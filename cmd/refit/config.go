package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts"
)

// config is refit.yml. example.yml is its reference; a test loads it.
type config struct {
	Fleet     string          `yaml:"fleet"`
	Domain    string          `yaml:"domain"`
	Upstream  upstreamConfig  `yaml:"upstream"`
	SSH       sshConfig       `yaml:"ssh"`
	Mastodon  mastodonConfig  `yaml:"mastodon"`
	Hosts     []hostConfig    `yaml:"hosts"`
	Database  databaseConfig  `yaml:"database"`
	Proxies   proxiesConfig   `yaml:"proxies"`
	Toolchain toolchainConfig `yaml:"toolchain"`
	Mirrors   mirrorsConfig   `yaml:"mirrors"`
	Build     buildConfig     `yaml:"build"`
	Signing   *signingConfig  `yaml:"signing"`
	Waits     waitsConfig     `yaml:"waits"`
	Holds     holdsConfig     `yaml:"holds"`
	Limits    limitsConfig    `yaml:"limits"`
	Keep      int             `yaml:"keep"`
	// KeepAssets is for how many days hashed assets stay after their release.
	KeepAssets int              `yaml:"keep_assets"`
	Store      storeConfig      `yaml:"store"`
	CDN        *cdnConfig       `yaml:"cdn"`
	Cloud      *cloudConfig     `yaml:"cloud"`
	Backups    *backupsConfig   `yaml:"backups"`
	Configs    *configsConfig   `yaml:"configs"`
	Watch      watchConfig      `yaml:"watch"`
	Policy     policyConfig     `yaml:"policy"`
	Approvals  *approvalsConfig `yaml:"approvals"`
	Flings     []flingConfig    `yaml:"flings"`
	Notify     notifyConfig     `yaml:"notify"`
	GitHub     *gitHubConfig    `yaml:"github"`
	Metrics    metricsConfig    `yaml:"metrics"`

	dir  string // the folder of the file: relative paths in it start here
	file string // the file itself
}

type upstreamConfig struct {
	Repository string `yaml:"repository"`
	// GitHub is OWNER/NAME of the repository there, where Repository does not say it.
	GitHub string        `yaml:"github"`
	API    string        `yaml:"api"`
	Token  *secretConfig `yaml:"token"`
	// Notes is a folder of vX.Y.Z.md files, for who has no way to GitHub.
	Notes string `yaml:"notes"`
}

type sshConfig struct {
	User       string        `yaml:"user"`
	Key        string        `yaml:"key"`
	KnownHosts string        `yaml:"known_hosts"`
	Port       int           `yaml:"port"`
	Connect    time.Duration `yaml:"connect"`
	Silence    time.Duration `yaml:"silence"`
}

type mastodonConfig struct {
	User       string `yaml:"user"`
	Home       string `yaml:"home"`
	ProbeToken string `yaml:"probe_token"`
}

type hostConfig struct {
	Name    string          `yaml:"name"`
	Address string          `yaml:"address"`
	Roles   []hosts.Role    `yaml:"roles"`
	Web     *webConfig      `yaml:"web"`
	Sidekiq []sidekiqConfig `yaml:"sidekiq"`
	// Droplet is the machine's ID in the cloud account; 0 to find it by its address.
	Droplet int `yaml:"droplet"`
}

type webConfig struct {
	Port      int   `yaml:"port"`
	Streaming []int `yaml:"streaming"`
}

type sidekiqConfig struct {
	Unit   string   `yaml:"unit"`
	Queues []string `yaml:"queues"`
}

type databaseConfig struct {
	Host string `yaml:"host"`
	Port int    `yaml:"port"`
	Name string `yaml:"name"`
}

type proxiesConfig struct {
	Web       string `yaml:"web"`
	Streaming string `yaml:"streaming"`
	AccessLog string `yaml:"access_log"`
}

type toolchainConfig struct {
	Ruby      *overrideConfig `yaml:"ruby"`
	Node      *overrideConfig `yaml:"node"`
	RubyBuild rubyBuildConfig `yaml:"ruby_build"`
	// Checksums are SHA-256 by file name, "node-v24.10.0-linux-x64.tar.gz".
	Checksums map[string]string `yaml:"checksums"`
}

type rubyBuildConfig struct {
	Repository string `yaml:"repository"`
	// Revision is a whole commit hash: what compiles Ruby changes by a decision.
	Revision string `yaml:"revision"`
	// Definitions is a folder of more definitions, each under its version's name.
	Definitions string   `yaml:"definitions"`
	Configure   []string `yaml:"configure"`
}

type overrideConfig struct {
	Version string `yaml:"version"`
	Prefix  string `yaml:"prefix"`
	Why     string `yaml:"why"`
}

type mirrorsConfig struct {
	Gems string            `yaml:"gems"`
	NPM  string            `yaml:"npm"`
	Ruby string            `yaml:"ruby"`
	Node string            `yaml:"node"`
	Git  map[string]string `yaml:"git"`
	// YarnChecksums is yarn's own setting ("ignore"), for a mirror that serves
	// substitutes; it needs a reason.
	YarnChecksums    string `yaml:"yarn_checksums"`
	YarnChecksumsWhy string `yaml:"yarn_checksums_why"`
}

// buildConfig is what a build needs of the builder, and what the builder keeps.
type buildConfig struct {
	Memory bytesSize `yaml:"memory"`
	Disk   bytesSize `yaml:"disk"`
	// Silence is how long a step that fetches may say nothing.
	Silence time.Duration `yaml:"silence"`
	// KeepFor is how long the builder keeps what no build uses, KeepSize how much in all.
	KeepFor  time.Duration `yaml:"keep_for"`
	KeepSize bytesSize     `yaml:"keep_size"`
	// Precompile sends Ruby's code compiled.
	Precompile bool `yaml:"precompile"`
}

// signingConfig says who signs what is built, and who may, as far as nodes are concerned.
type signingConfig struct {
	// Key is a private ssh key, or the public half of one that the ssh agent has.
	Key string `yaml:"key"`
	// Identity is the name that the key has in the nodes' file of allowed signers.
	Identity string `yaml:"identity"`
	// Allowed is the path of that file on every node.
	Allowed string `yaml:"allowed"`
}

type waitsConfig struct {
	Drain         time.Duration `yaml:"drain"`
	Idle          time.Duration `yaml:"idle"`
	Stop          time.Duration `yaml:"stop"`
	Boot          time.Duration `yaml:"boot"`
	MigrateReport time.Duration `yaml:"migrate_report"`
	MigrateStall  time.Duration `yaml:"migrate_stall"`
	Unreachable   time.Duration `yaml:"unreachable"`
}

type holdsConfig struct {
	Sidekiq  time.Duration `yaml:"sidekiq"`
	Web      time.Duration `yaml:"web"`
	Migrated time.Duration `yaml:"migrated"`
	Soak     time.Duration `yaml:"soak"`
}

type limitsConfig struct {
	Errors       float64       `yaml:"errors"`
	Latency      float64       `yaml:"latency"`
	LatencyFloor time.Duration `yaml:"latency_floor"`
	NameErrors   int           `yaml:"name_errors"`
	Load         float64       `yaml:"load"`
	DiskFree     bytesSize     `yaml:"disk_free"`
	// Transfer bounds the bytes a second to each node; 0 for no limit.
	Transfer bytesSize `yaml:"transfer"`
}

// bytesSize reads "3GiB", "500MB" or a plain number of bytes.
type bytesSize uint64

// UnmarshalYAML reads the size.
func (b *bytesSize) UnmarshalYAML(text []byte) error {
	n, err := humanize.ParseBytes(strings.Trim(string(text), `"' `))
	if err != nil {
		return fmt.Errorf("%q is not a size such as 3GiB", text)
	}
	*b = bytesSize(n)
	return nil
}

// defaults is a config that has every optional key's default.
func defaults() config {
	return config{
		Upstream: upstreamConfig{Repository: "https://github.com/mastodon/mastodon.git"},
		SSH:      sshConfig{User: "refit", Port: 22, Connect: 10 * time.Second, Silence: 20 * time.Second},
		Mastodon: mastodonConfig{User: "mastodon", Home: "/home/mastodon", ProbeToken: "/etc/refit/probe.token"},
		Proxies: proxiesConfig{
			Web: "/etc/nginx/refit/web.conf", Streaming: "/etc/nginx/refit/streaming.conf",
			AccessLog: "/var/log/nginx/access.log",
		},
		Build: buildConfig{Memory: 3 << 30, Disk: 4 << 30, Silence: 5 * time.Minute, KeepFor: 60 * 24 * time.Hour, KeepSize: 10 << 30},
		Waits: waitsConfig{
			Drain: time.Minute, Idle: 5 * time.Minute, Stop: 2 * time.Minute, Boot: 3 * time.Minute,
			MigrateReport: 15 * time.Second, MigrateStall: 15 * time.Minute, Unreachable: 10 * time.Minute,
		},
		Holds: holdsConfig{Sidekiq: time.Minute, Web: 5 * time.Minute, Migrated: 5 * time.Minute, Soak: 15 * time.Minute},
		Limits: limitsConfig{
			Errors: 0.01, Latency: 2, LatencyFloor: 300 * time.Millisecond, NameErrors: 5, Load: 0.8, DiskFree: 3 << 30,
		},
		Toolchain: toolchainConfig{RubyBuild: rubyBuildConfig{
			Repository: toolchain.DefaultRubyBuild, Revision: toolchain.DefaultRevision, Configure: toolchain.DefaultConfigure(),
		}},
		Keep: 2, KeepAssets: 30,
		Store:  storeConfig{Keep: 5, Days: 30},
		Watch:  watchConfig{Every: 5 * time.Minute, Feed: upstream.DefaultFeed, Alarm: time.Hour},
		Policy: defaultPolicy(),
	}
}

// configError is everything wrong with a configuration file, each with its place.
type configError struct {
	file  string
	wrong []string
}

func (e *configError) Error() string {
	return fmt.Sprintf("%s cannot be used:\n  %s", e.file, strings.Join(e.wrong, "\n  "))
}

// loadConfig reads and checks a refit.yml. Every error names the file, the line
// and the field.
func loadConfig(path string) (config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return config{}, &configError{path, []string{"there is no such file: name yours with --config, or start from the one that `refit example` prints"}}
	}
	if err != nil {
		return config{}, &configError{path, []string{err.Error()}}
	}
	c, err := parseConfig(path, text)
	if err != nil {
		return config{}, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return config{}, err
	}
	c.dir, c.file = filepath.Dir(abs), abs
	return c, nil
}

func parseConfig(path string, text []byte) (config, error) {
	c := defaults()
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return config{}, &configError{path, []string{yamlError(path, err)}}
	}
	if len(file.Docs) != 1 {
		return config{}, &configError{path, []string{fmt.Sprintf("holds %d documents; refit reads exactly one", len(file.Docs))}}
	}
	if asked := questions(path, file); len(asked) > 0 {
		return config{}, &configError{path, asked}
	}
	if err := yaml.UnmarshalWithOptions(text, &c, yaml.Strict()); err != nil {
		return config{}, &configError{path, []string{yamlError(path, err)}}
	}
	w := &wrongs{path: path, file: file}
	c.check(w)
	if len(w.all) > 0 {
		return config{}, &configError{path, w.sorted()}
	}
	return c, nil
}

// yamlError says where the file is wrong and shows the place. Nothing in the file
// should be secret; what looks like a token that was written there by mistake is not
// shown.
func yamlError(path string, err error) string {
	text := err.Error()
	if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
		text = fmt.Sprintf("%s:%d: %s", path, e.GetToken().Position.Line, yaml.FormatError(err, false, true))
	}
	return redact()(text)
}

// wrongs gathers what is wrong, each with the line of the field it names.
type wrongs struct {
	path string
	file *ast.File
	all  []wrong
}

type wrong struct {
	line int
	text string
}

// sorted is what is wrong in the order of the file.
func (w *wrongs) sorted() []string {
	slices.SortFunc(w.all, func(a, b wrong) int {
		return cmp.Or(cmp.Compare(a.line, b.line), strings.Compare(a.text, b.text))
	})
	var out []string
	for _, x := range w.all {
		out = append(out, x.text)
	}
	return out
}

func (w *wrongs) say(field, format string, args ...any) {
	line := w.line(field)
	w.all = append(w.all, wrong{line, fmt.Sprintf("%s:%d: %s: %s", w.path, line, field, fmt.Sprintf(format, args...))})
}

// line is where the field stands, or the nearest thing above it that exists.
func (w *wrongs) line(field string) int {
	for field != "" {
		if p, err := yaml.PathString("$." + field); err == nil {
			if n, err := p.FilterFile(w.file); err == nil && n != nil {
				return n.GetToken().Position.Line
			}
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			break
		}
		field = field[:i]
	}
	return 1
}

// path resolves a path of the file: ~ is the home folder, a relative path starts at the file's folder.
func (c config) path(p string) (string, error) {
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		return filepath.Join(home, rest), nil
	}
	if p == "" || filepath.IsAbs(p) {
		return p, nil
	}
	return filepath.Join(c.dir, p), nil
}
