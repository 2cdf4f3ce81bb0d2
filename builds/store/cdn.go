package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"
)

// Served is what browsers are told of an object.
type Served struct {
	// Type is its Content-Type.
	Type string
	// ACL is S3's name for who may read it, "public-read"; empty for the bucket's own rule.
	ACL string
}

// Website is a Bucket whose objects are served to browsers.
type Website interface {
	Bucket
	// PutServed is Put for an object that never changes under its name.
	PutServed(ctx context.Context, key string, r io.Reader, as Served) error
}

// PutServed implements Website.
func (s *S3) PutServed(ctx context.Context, key string, r io.Reader, as Served) error {
	o := minio.PutObjectOptions{ContentType: as.Type, CacheControl: "public, max-age=31536000, immutable"}
	if as.ACL != "" {
		o.UserMetadata = map[string]string{"x-amz-acl": as.ACL}
	}
	return s.put(ctx, key, r, o)
}

// CDN is the bucket behind Mastodon's CDN_HOST. Hashed assets are copied to it and never
// removed or changed: pages that browsers and caches hold name those of any release.
type CDN struct {
	Bucket Website
	// Host is CDN_HOST: "https://assets.example".
	Host string
	// Origin is the site whose pages load from it: "https://example".
	Origin string
	// ACL as in Served.
	ACL string
	// Client asks Host; nil for one with a limit of 30 seconds.
	Client *http.Client
	// Every and Tries are how often a file that is not answered yet is asked for again;
	// 0 for 5 seconds and 6 times.
	Every time.Duration
	Tries int
}

// Asset is one hashed file.
type Asset struct {
	// Path below the site, and in the bucket: "packs/application-1a2b3c4d.js".
	Path string
	// Size in bytes.
	Size int64
}

// sideBySide is how many files are copied, or asked for, at the same time.
const sideBySide = 8

// Lacking tells which assets the bucket does not have. One that it has with another size
// is an error: pages hold the hash of what they load, and browsers refuse all else. Maps
// alone, which no page loads and two builds may write differently, stay as they are.
func (c *CDN) Lacking(ctx context.Context, assets []Asset) ([]Asset, error) {
	have := map[string]int64{}
	for _, dir := range tops(assets) {
		items, err := c.Bucket.List(ctx, dir+"/")
		if err != nil {
			return nil, fmt.Errorf("cannot list %s: %w", c.Bucket, err)
		}
		for _, item := range items {
			have[item.Key] = item.Size
		}
	}
	var out []Asset
	for _, a := range assets {
		size, ok := have[a.Path]
		switch {
		case !ok:
			out = append(out, a)
		case size != a.Size && path.Ext(a.Path) != ".map":
			return nil, fmt.Errorf("%s holds a %s of %d bytes, and that of the release has %d: pages would refuse it. refit replaces nothing there; find out who put it there, and remove it", c.Bucket, a.Path, size, a.Size)
		}
	}
	return out, nil
}

// tops are the first parts of the paths.
func tops(assets []Asset) []string {
	var out []string
	for _, a := range assets {
		top, _, _ := strings.Cut(a.Path, "/")
		out = append(out, top)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Copying copies assets, several at the same time.
type Copying struct {
	c *CDN
	g *errgroup.Group
	//nolint:containedctx // that of the group: the first error ends all
	ctx context.Context
}

// Copying begins to copy.
func (c *CDN) Copying(ctx context.Context) *Copying {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sideBySide)
	return &Copying{c, g, ctx}
}

// Add copies one asset; it waits while enough others are on their way. Its error is that
// of any.
func (p *Copying) Add(a Asset, content []byte) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	p.g.Go(func() error {
		err := p.c.Bucket.PutServed(p.ctx, a.Path, bytes.NewReader(content), Served{Type: contentType(a.Path), ACL: p.c.ACL})
		if err != nil {
			return fmt.Errorf("cannot copy %s to %s: %w", a.Path, p.c.Bucket, err)
		}
		return nil
	})
	return nil
}

// Wait ends the copying.
func (p *Copying) Wait() error { return p.g.Wait() }

// contentType is what a browser must be told of a file: it runs no module and applies no
// style that comes under another type. The host's own table is not asked; it differs.
func contentType(file string) string {
	known := map[string]string{
		".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
		".map": "application/json", ".json": "application/json", ".webmanifest": "application/manifest+json",
		".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp", ".avif": "image/avif", ".ico": "image/vnd.microsoft.icon",
		".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf", ".eot": "application/vnd.ms-fontobject",
		".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".wasm": "application/wasm", ".html": "text/html; charset=utf-8", ".txt": "text/plain; charset=utf-8",
	}
	return cmp.Or(known[strings.ToLower(path.Ext(file))], "application/octet-stream")
}

// Fault is an asset that CDN_HOST does not serve as pages need it.
type Fault struct {
	Path string
	Why  string
}

// Answered asks CDN_HOST for every asset as a page of the site would, and returns those
// that are not answered well, again and again until none is left or the tries are used up.
func (c *CDN) Answered(ctx context.Context, assets []Asset) ([]Fault, error) {
	every, tries := cmp.Or(c.Every, 5*time.Second), cmp.Or(c.Tries, 6)
	left := assets
	for try := 1; ; try++ {
		faults, err := c.ask(ctx, left)
		if err != nil || len(faults) == 0 || try == tries {
			return faults, err
		}
		bad := map[string]bool{}
		for _, f := range faults {
			bad[f.Path] = true
		}
		left = slices.DeleteFunc(slices.Clone(left), func(a Asset) bool { return !bad[a.Path] })
		t := time.NewTimer(every)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

func (c *CDN) ask(ctx context.Context, assets []Asset) ([]Fault, error) {
	why := make([]error, len(assets))
	var g errgroup.Group
	g.SetLimit(sideBySide)
	for i, a := range assets {
		g.Go(func() error {
			if ctx.Err() == nil {
				why[i] = c.one(ctx, a)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // what failed, failed because of that
	}
	var out []Fault
	for i, err := range why {
		if err != nil {
			out = append(out, Fault{assets[i].Path, err.Error()})
		}
	}
	return out, nil
}

// one asks for one asset: by HEAD, which spares its bytes, and where that is not answered
// as a page needs it, by GET, of which the rule for other origins may be alone.
func (c *CDN) one(ctx context.Context, a Asset) error {
	err := c.fetch(ctx, http.MethodHead, a)
	if err != nil && ctx.Err() == nil {
		err = c.fetch(ctx, http.MethodGet, a)
	}
	return err
}

func (c *CDN) fetch(ctx context.Context, method string, a Asset) error {
	where := strings.TrimSuffix(c.Host, "/") + (&url.URL{Path: "/" + a.Path}).EscapedPath()
	req, err := http.NewRequestWithContext(ctx, method, where, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Origin", c.Origin)
	client := c.Client
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil { // unread: what it holds was verified when it was copied
		return err
	}
	allowed := resp.Header.Get("Access-Control-Allow-Origin")
	switch kind := resp.Header.Get("Content-Type"); {
	case resp.StatusCode != http.StatusOK:
		return errors.New("it answers " + resp.Status)
	case allowed != "*" && allowed != c.Origin:
		return fmt.Errorf("it has no Access-Control-Allow-Origin for %s (%q): give the bucket a CORS rule for GET and HEAD, or the page stays blank", c.Origin, allowed)
	case path.Ext(a.Path) == ".js" && !strings.Contains(kind, "javascript"), path.Ext(a.Path) == ".css" && !strings.Contains(kind, "css"):
		return fmt.Errorf("it comes as %q, which browsers do not take for what it is", kind)
	}
	return nil
}
