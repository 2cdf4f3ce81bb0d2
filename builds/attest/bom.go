package attest

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bom is a bill of materials in CycloneDX's JSON, version 1.6: the fields that refit uses.
type Bom struct {
	Schema string `json:"$schema"`
	Format string `json:"bomFormat"`
	Spec   string `json:"specVersion"`
	// Serial is made of the content, so that the same build has the same.
	Serial       string        `json:"serialNumber"`
	Version      int           `json:"version"`
	Metadata     Metadata      `json:"metadata"`
	Components   []Component   `json:"components"`
	Dependencies []Dependency  `json:"dependencies"`
	Compositions []Composition `json:"compositions"`
}

// Metadata says what the bill is of.
type Metadata struct {
	// Timestamp is the source's: the bill says nothing that is newer.
	Timestamp time.Time `json:"timestamp"`
	Tools     struct {
		Components []Component `json:"components"`
	} `json:"tools"`
	Component Component `json:"component"`
}

// Component is one thing that the release is made of.
type Component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref,omitempty"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	// Scope is "required" for what lies in the release, "optional" for what was used to
	// build it and may be in its packs, "excluded" for what is locked and not there.
	Scope      string     `json:"scope,omitempty"`
	Hashes     []Hash     `json:"hashes,omitempty"`
	Purl       string     `json:"purl,omitempty"`
	Properties []Property `json:"properties,omitempty"`
}

// Hash is a digest of a component's own file.
type Hash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

// Property is what CycloneDX has no field for.
type Property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Dependency tells what a component needs, by references.
type Dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// Composition tells how complete a part of the bill is.
type Composition struct {
	Aggregate  string   `json:"aggregate"`
	Assemblies []string `json:"assemblies"`
}

// Tool is a Ruby, a Node, a Bundler or a yarn.
type Tool struct {
	Name, Version string
	// File is the program that was hashed, SHA256 its digest in hex; empty for none.
	File, SHA256 string
}

// Materials is what a bill is made from.
type Materials struct {
	// Name is the release's, "v4.5.15"; Repository its source's URL, Commit its commit.
	Name, Repository, Commit string
	// Time is the commit's.
	Time time.Time
	// Refit is refit's version, Digest the SHA-256 of its program.
	Refit, Digest string
	Tools         []Tool
	Gems          []Gem
	Packages      []Package
	// InstalledGems are the names of the folders of vendor/bundle's gems,
	// "rack-3.1.8", "nokogiri-1.19.4-x86_64-linux-gnu", and of those from git,
	// "webpush-9631ac63045c"; with them the default gems that Ruby brings.
	InstalledGems []string
	// InstalledPackages are the node packages that lie in the release, "ws@8.18.3".
	InstalledPackages []string
	// OS and CPU of the release in node's words: "linux", "x64".
	OS, CPU string
	// Gaps tell why a lock file could not be read; the bill says so.
	Gaps []string
}

// NewBom makes the bill of materials.
func NewBom(m Materials) (Bom, error) {
	const root = "mastodon"
	b := Bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", Spec: "1.6", Version: 1,
		Components: []Component{},
	}
	b.Metadata.Timestamp = m.Time.UTC().Truncate(time.Second)
	b.Metadata.Tools.Components = []Component{{Type: "application", Name: "refit", Version: m.Refit, Hashes: hashes(m.Digest)}}
	b.Metadata.Component = Component{
		Type: "application", Ref: root, Name: root, Version: m.Name, Purl: sourcePurl(m.Repository, m.Name),
		Properties: properties("refit:source", m.Repository, "refit:commit", m.Commit),
	}
	top := Dependency{Ref: root}
	for _, t := range m.Tools {
		ref := "tool:" + t.Name
		b.Components = append(b.Components, Component{
			Type: "platform", Ref: ref, Name: t.Name, Version: t.Version, Hashes: hashes(t.SHA256), Purl: purl("generic", t.Name, t.Version),
			Properties: properties("refit:file", t.File),
		})
		top.DependsOn = append(top.DependsOn, ref)
		b.Dependencies = append(b.Dependencies, Dependency{Ref: ref})
	}
	gems, needs := gemComponents(m)
	b.Components, b.Dependencies = append(b.Components, gems...), append(b.Dependencies, needs...)
	packages, needs := packageComponents(m)
	b.Components, b.Dependencies = append(b.Components, packages...), append(b.Dependencies, needs...)
	for _, c := range slices.Concat(gems, packages) {
		top.DependsOn = append(top.DependsOn, c.Ref)
	}
	b.Dependencies = append([]Dependency{top}, b.Dependencies...)
	if len(m.Gaps) > 0 {
		b.Metadata.Component.Properties = append(b.Metadata.Component.Properties, Property{"refit:gaps", strings.Join(m.Gaps, "; ")})
	}
	// The system's libraries are not in it.
	b.Compositions = []Composition{{Aggregate: "incomplete", Assemblies: []string{root}}}
	return b, b.number()
}

// number makes the serial number of the content: a UUID of a name (RFC 9562, version 8,
// with SHA-256).
func (b *Bom) number() error {
	text, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("cannot encode the bill of materials: %w", err)
	}
	u := sha256.Sum256(text)
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	b.Serial = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
	return nil
}

func gemComponents(m Materials) (out []Component, needs []Dependency) {
	refs := map[string][]string{} // by name: a gem may be locked for several platforms
	for _, g := range m.Gems {
		refs[g.Name] = append(refs[g.Name], gemRef(g))
	}
	for _, g := range m.Gems {
		folder, platform := g.installed(m.InstalledGems)
		c := Component{
			Type: "library", Ref: gemRef(g), Name: g.Name, Version: g.Version, Scope: "excluded", Hashes: hashes(g.SHA256),
			Purl:       g.purl(platform),
			Properties: properties("refit:from", g.Remote, "refit:revision", g.Revision, "refit:folder", folder),
		}
		if folder != "" {
			c.Scope = "required"
		}
		d := Dependency{Ref: c.Ref}
		for _, name := range g.Needs {
			d.DependsOn = append(d.DependsOn, refs[name]...)
		}
		slices.Sort(d.DependsOn)
		d.DependsOn = slices.Compact(d.DependsOn)
		out, needs = append(out, c), append(needs, d)
	}
	return out, needs
}

func gemRef(g Gem) string { return "gem:" + g.Name + "@" + g.Version }

// installed finds the folder that a gem lies in, and the platform that it was made for:
// Bundler may take a gem that was compiled for this platform where the lock names the
// source.
func (g Gem) installed(folders []string) (folder, platform string) {
	want := g.Name + "-" + g.Version
	if g.Revision != "" {
		want = g.Name + "-" + g.Revision[:min(12, len(g.Revision))]
	}
	for _, f := range folders {
		if f == want {
			return f, ""
		}
	}
	for _, f := range folders {
		if rest, ok := strings.CutPrefix(f, want+"-"); ok && g.Revision == "" && platformName(rest) {
			return f, rest
		}
	}
	return "", ""
}

// platformName tells whether what follows a gem's version names a platform.
func platformName(s string) bool {
	cpu, _, ok := strings.Cut(s, "-")
	return s == "java" || (ok && slices.Contains([]string{"x86_64", "aarch64", "arm64", "x86", "arm", "universal"}, cpu))
}

func (g Gem) purl(platform string) string {
	if g.Revision != "" {
		return purl("gem", g.Name, g.Version, [2]string{"vcs_url", "git+" + g.Remote + "@" + g.Revision})
	}
	return purl("gem", g.Name, g.Version, [2]string{"platform", platform})
}

func packageComponents(m Materials) (out []Component, needs []Dependency) {
	refs := map[string]bool{}
	for _, p := range m.Packages {
		refs[p.Resolution] = !p.Workspace
	}
	for _, p := range m.Packages {
		if p.Workspace {
			continue // it is the source
		}
		c := Component{
			Type: "library", Ref: "npm:" + p.Resolution, Name: p.Name, Version: p.Version, Scope: "optional", Purl: purl("npm", p.Name, p.Version),
			Properties: properties("refit:yarn-checksum", p.Checksum, "refit:conditions", p.Conditions),
		}
		switch {
		case slices.Contains(m.InstalledPackages, p.Name+"@"+p.Version):
			c.Scope = "required"
		case p.Elsewhere(m.OS, m.CPU):
			c.Scope = "excluded"
		}
		d := Dependency{Ref: c.Ref}
		for _, n := range p.Needs {
			if refs[n] {
				d.DependsOn = append(d.DependsOn, "npm:"+n)
			}
		}
		out, needs = append(out, c), append(needs, d)
	}
	return out, needs
}

// sourcePurl names the source: on GitHub by its repository there.
func sourcePurl(repository, name string) string {
	if at, ok := strings.CutPrefix(repository, "https://github.com/"); ok {
		return purl("github", strings.ToLower(strings.TrimSuffix(at, ".git")), name)
	}
	return purl("generic", "mastodon", name, [2]string{"vcs_url", "git+" + repository})
}

func hashes(sum string) []Hash {
	if sum == "" {
		return nil
	}
	return []Hash{{"SHA-256", sum}}
}

// properties are pairs of name and value; those without a value are left out.
func properties(pairs ...string) []Property {
	var out []Property
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, Property{pairs[i], pairs[i+1]})
		}
	}
	slices.SortStableFunc(out, func(a, b Property) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
