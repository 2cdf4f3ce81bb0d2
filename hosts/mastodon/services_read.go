package mastodon

import (
	"bufio"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// readSearch is the verb "search".
func readSearch(ctx context.Context, in SearchIn, _ func(string)) (Search, error) {
	env, err := readEnviron(in.Layout)
	if err != nil {
		return Search{}, err
	}
	if env["ES_ENABLED"] != "true" {
		return Search{}, nil
	}
	s, err := searchServer(ctx, env)
	return s, env.clean(err)
}

func searchServer(ctx context.Context, env environ) (Search, error) {
	s := Search{Enabled: true}
	base := env.or("ES_HOST", "localhost")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	base = strings.TrimSuffix(base, "/") + ":" + env.or("ES_PORT", "9200")
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string, out any) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return errors.New("cannot use ES_HOST and ES_PORT: they make no address")
		}
		if env["ES_USER"] != "" {
			req.SetBasicAuth(env["ES_USER"], env["ES_PASS"])
		}
		res, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("cannot reach the search server: %w", err)
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
		if err := errors.Join(err, res.Body.Close()); err != nil {
			return fmt.Errorf("cannot read from the search server: %w", err)
		}
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("the search server answers %d to %s", res.StatusCode, path)
		}
		if err := json.Unmarshal(body, out); err != nil {
			return fmt.Errorf("the search server's answer to %s is no JSON: %w", path, err)
		}
		return nil
	}
	var root struct {
		Version struct {
			Number       string `json:"number"`
			Distribution string `json:"distribution"`
		} `json:"version"`
	}
	if err := get("/", &root); err != nil {
		return s, err
	}
	s.Version, s.Distribution = root.Version.Number, root.Version.Distribution
	var indexes []struct {
		Index  string `json:"index"`
		Health string `json:"health"`
		Status string `json:"status"`
		Docs   string `json:"docs.count"`
	}
	if err := get("/_cat/indices?format=json", &indexes); err != nil {
		return s, err
	}
	for _, i := range indexes {
		if !strings.HasPrefix(i.Index, env["ES_PREFIX"]) || strings.HasPrefix(i.Index, ".") {
			continue
		}
		docs, err := strconv.ParseInt(i.Docs, 10, 64)
		if err != nil && i.Docs != "" {
			return s, fmt.Errorf("the search server tells the documents of %s as %q", i.Index, i.Docs)
		}
		s.Indexes = append(s.Indexes, SearchIndex{i.Index, i.Health, docs, i.Status == "close"})
	}
	slices.SortFunc(s.Indexes, func(a, b SearchIndex) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

// readLibraries is the verb "libraries".
func readLibraries(ctx context.Context, in LibrariesIn, _ func(string)) (Libraries, error) {
	var out Libraries
	root := in.Layout.Release(in.Release)
	missing := map[string]string{}
	// The release's own Ruby has loaded its library before any of these.
	ruby, err := filepath.EvalSymlinks(filepath.Join(root, ".refit", "ruby"))
	if err != nil {
		return out, fmt.Errorf("cannot find the Ruby of %s: %w", in.Release, err)
	}
	err = filepath.WalkDir(filepath.Join(root, "vendor", "bundle"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !d.Type().IsRegular() || !strings.HasSuffix(path, ".so") || !native(path) {
			return nil
		}
		out.Files++
		libs, err := lddMissing(ctx, path, filepath.Join(ruby, "lib"))
		if err != nil {
			return err
		}
		for _, l := range libs {
			if _, known := missing[l]; !known {
				missing[l] = strings.TrimPrefix(path, root+"/")
			}
		}
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("cannot look for the libraries of %s: %w", in.Release, err)
	}
	for l, by := range missing {
		out.Missing = append(out.Missing, MissingLibrary{l, by})
	}
	slices.SortFunc(out.Missing, func(a, b MissingLibrary) int { return strings.Compare(a.Library, b.Library) })
	return out, nil
}

// native tells whether a file is a shared object: gems ship test data that ends
// in .so too.
func native(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// lddMissing asks the dynamic linker which libraries it would not find.
func lddMissing(ctx context.Context, path, ruby string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "ldd", path)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+ruby, "LC_ALL=C")
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ldd of %s: %w", path, err)
	}
	return notFound(string(b)), nil
}

// notFound reads the output of ldd.
func notFound(output string) []string {
	var libs []string
	lines := bufio.NewScanner(strings.NewReader(output))
	for lines.Scan() {
		if name, ok := strings.CutSuffix(strings.TrimSpace(lines.Text()), " => not found"); ok {
			libs = append(libs, name)
		}
	}
	return libs
}
