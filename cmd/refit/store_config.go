package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"vmst.io/refit/builds/store"
)

// storeConfig is where what was built is kept; nowhere if it names neither.
type storeConfig struct {
	Dir string    `yaml:"dir"`
	S3  *s3Config `yaml:"s3"`
	// Keep is how many of the newest releases stay, Days for how long any artifact does.
	Keep int `yaml:"keep"`
	Days int `yaml:"days"`
}

// s3Config is a bucket of a server that speaks S3.
type s3Config struct {
	Endpoint  string        `yaml:"endpoint"`
	Region    string        `yaml:"region"`
	Bucket    string        `yaml:"bucket"`
	Prefix    string        `yaml:"prefix"`
	AccessKey *secretConfig `yaml:"access_key"`
	SecretKey *secretConfig `yaml:"secret_key"`
}

// cdnConfig is Mastodon's CDN_HOST and the bucket behind it.
type cdnConfig struct {
	Host string    `yaml:"host"`
	S3   *s3Config `yaml:"s3"`
	// ACL is put on each object, "public-read"; empty for the bucket's own rule.
	ACL string `yaml:"acl"`
}

var (
	// As S3 and its kin have them: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	objectName = regexp.MustCompile(`^([A-Za-z0-9_-][A-Za-z0-9._-]*)(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)
	cannedACL  = regexp.MustCompile(`^[a-z-]+$`)
)

// leastTransfer is less than a link that carries a release in a night: a smaller limit is
// a size without its unit.
const leastTransfer = 64 << 10

const day = 24 * time.Hour

func (c config) checkStore(w *wrongs) {
	if c.Store.Dir != "" && c.Store.S3 != nil {
		w.say("store", "names a dir and an s3: which?")
	}
	c.Store.S3.check(w, "store.s3")
	if c.Store.Keep < 1 {
		w.say("store.keep", "%d: at least one release must stay", c.Store.Keep)
	}
	if c.Store.Days < 0 {
		w.say("store.days", "%d is negative", c.Store.Days)
	}
	if c.KeepAssets < 0 {
		w.say("keep_assets", "%d days is negative", c.KeepAssets)
	}
	if n := c.Limits.Transfer; n != 0 && n < leastTransfer {
		w.say("limits.transfer", "%d bytes a second: a release takes days; write a unit, such as 10MB", n)
	}
	if c.CDN == nil {
		return
	}
	w.url("cdn.host", c.CDN.Host, "CDN_HOST such as https://assets.example.org")
	if strings.HasSuffix(c.CDN.Host, "/") {
		w.say("cdn.host", "has a slash at its end, which a CDN_HOST has not")
	}
	if c.CDN.S3 == nil {
		w.say("cdn.s3", "is missing: the bucket that %s serves", c.CDN.Host)
	}
	c.CDN.S3.check(w, "cdn.s3")
	if c.CDN.ACL != "" && !cannedACL.MatchString(c.CDN.ACL) {
		w.say("cdn.acl", "%q is no ACL of S3's such as public-read", c.CDN.ACL)
	}
}

func (s *s3Config) check(w *wrongs, field string) {
	if s == nil {
		return
	}
	w.url(field+".endpoint", s.Endpoint, "URL such as https://fra1.digitaloceanspaces.com")
	if !bucketName.MatchString(s.Bucket) {
		w.say(field+".bucket", "%q is no bucket's name", s.Bucket)
	}
	if s.Prefix != "" && !objectName.MatchString(s.Prefix) {
		w.say(field+".prefix", "%q: letters, digits, dot, dash and underscore, parted by slashes", s.Prefix)
	}
	for name, key := range map[string]*secretConfig{".access_key": s.AccessKey, ".secret_key": s.SecretKey} {
		if key == nil {
			w.say(field+name, "is missing: {file: …} or {env: …}")
		}
		key.check(w, field+name)
	}
}

// bucket makes the bucket that was written down. It asks the server nothing.
func (c config) bucket(s *s3Config, what string, say func(string, ...any)) (*store.S3, error) {
	o := store.S3Options{Endpoint: s.Endpoint, Region: s.Region, Bucket: s.Bucket, Prefix: s.Prefix}
	for _, key := range []struct {
		from *secretConfig
		name string
		to   *string
	}{{s.AccessKey, "access_key", &o.AccessKey}, {s.SecretKey, "secret_key", &o.SecretKey}} {
		text, known, err := c.secret(key.from, what+"."+key.name)
		if err != nil {
			return nil, exitWith(exitUsage, err)
		}
		if known != "" {
			say("%s", known)
		}
		*key.to = text
	}
	return store.NewS3(o)
}

// artifacts is the store that was written down, nil for none.
func (c config) artifacts(say func(string, ...any)) (*store.Store, error) {
	switch {
	case c.Store.S3 != nil:
		b, err := c.bucket(c.Store.S3, "store.s3", say)
		if err != nil {
			return nil, err
		}
		return &store.Store{Bucket: b}, nil
	case c.Store.Dir != "":
		dir, err := c.path(c.Store.Dir)
		if err != nil {
			return nil, err
		}
		return &store.Store{Bucket: store.Dir{Path: dir}}, nil
	}
	return nil, nil //nolint:nilnil // no store is none
}

// retain is the rule of what stays in it.
func (c config) retain() store.Rule {
	return store.Rule{Keep: c.Store.Keep, Age: time.Duration(c.Store.Days) * day}
}

// cdn is the bucket behind CDN_HOST, nil for none.
func (c config) cdn(say func(string, ...any)) (*store.CDN, error) {
	if c.CDN == nil {
		return nil, nil //nolint:nilnil // no CDN is none
	}
	b, err := c.bucket(c.CDN.S3, "cdn.s3", say)
	if err != nil {
		return nil, err
	}
	return &store.CDN{Bucket: b, Host: c.CDN.Host, Origin: "https://" + c.Domain, ACL: c.CDN.ACL}, nil
}

// wireStore puts in what was written down of the store and the CDN.
func (x *session) wireStore() error {
	c := x.config
	var err error
	if x.deps.Store, err = c.artifacts(x.say); err != nil {
		return fmt.Errorf("cannot use the store: %w", err)
	}
	if x.deps.CDN, err = c.cdn(x.say); err != nil {
		return fmt.Errorf("cannot use the CDN's bucket: %w", err)
	}
	x.deps.Retain, x.deps.KeepAssets = c.retain(), time.Duration(c.KeepAssets)*day
	return nil
}
