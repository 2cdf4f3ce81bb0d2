package mastodon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// page is what a probe needs to know of the site's HTML.
type page struct {
	// version in the initial state, "4.5.15", with what an operator may have added.
	version string
	// packs are the paths below /packs/ that it names, sorted.
	packs []string
}

// readPage reads the HTML of "/". The initial state is rendered by the process
// that answers and cached nowhere, so its version is that of the code which runs;
// /api/v2/instance and nodeinfo come from a cache that all nodes share.
func readPage(b []byte) (page, error) {
	var p page
	var state []byte
	z := html.NewTokenizer(bytes.NewReader(b))
	inState := false
	for {
		switch z.Next() {
		case html.ErrorToken:
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return p, fmt.Errorf("the page is no HTML: %w", err)
			}
			slices.Sort(p.packs)
			p.packs = slices.Compact(p.packs)
			return p, p.readState(state)
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			attr := map[string]string{}
			for _, a := range t.Attr {
				attr[a.Key] = a.Val
			}
			inState = t.Data == "script" && attr["id"] == "initial-state"
			for _, name := range []string{"src", "href"} {
				if path, ok := packPath(attr[name]); ok {
					p.packs = append(p.packs, path)
				}
			}
		case html.TextToken:
			if inState {
				state = bytes.Clone(z.Raw())
				inState = false
			}
		}
	}
}

func (p *page) readState(state []byte) error {
	if state == nil {
		return errors.New("the page has no initial state")
	}
	var v struct {
		Meta struct {
			Version string `json:"version"`
		} `json:"meta"`
	}
	if err := json.Unmarshal(state, &v); err != nil {
		return fmt.Errorf("the page's initial state is no JSON: %w", err)
	}
	if v.Meta.Version == "" {
		return errors.New("the page's initial state has no meta.version")
	}
	p.version = v.Meta.Version
	return nil
}

// packPath is the path of a link to a pack; with a CDN the link names another host.
func packPath(link string) (string, bool) {
	u, err := url.Parse(link)
	if err != nil || !strings.HasPrefix(u.Path, "/packs/") {
		return "", false
	}
	return u.EscapedPath(), true
}

// sameVersion tells whether the version that a page tells is that of a release;
// what follows a "+" is an operator's own.
func sameVersion(version, release string) bool {
	version, _, _ = strings.Cut(version, "+")
	return version == strings.TrimPrefix(release, "v")
}
