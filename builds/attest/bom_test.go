package attest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func someMaterials(t *testing.T) Materials {
	t.Helper()
	gems, err := ReadGems(gemLock)
	if err != nil {
		t.Fatal(err)
	}
	packages, err := ReadPackages(yarnLock)
	if err != nil {
		t.Fatal(err)
	}
	sum := strings.Repeat("0a", 32)
	return Materials{
		Name: "v4.5.15", Repository: "https://github.com/mastodon/mastodon.git", Commit: strings.Repeat("ab", 20),
		Time: time.Date(2026, 11, 20, 9, 30, 0, 0, time.FixedZone("", 3600)), Refit: "v1.2.3", Digest: sum,
		Tools: []Tool{{Name: "node", Version: "24.10.0", File: "/opt/refit/node-24.10/bin/node", SHA256: sum}, {Name: "yarn", Version: "4.10.3"}},
		Gems:  gems, Packages: packages,
		InstalledGems:     []string{"base64-0.3.0", "webpush-9631ac63045c", "jwt-2.10.2", "racc-1.8.1-x86_64-linux-gnu", "nokogiri-1.19.4-x86_64-linux-gnu"},
		InstalledPackages: []string{"ws@8.18.3"}, OS: "linux", CPU: "x64",
	}
}

func TestABillSaysOfEachComponentWhetherItLiesInTheRelease(t *testing.T) {
	b, err := NewBom(someMaterials(t))
	if err != nil {
		t.Fatal(err)
	}
	scopes := map[string]string{
		"gem:base64@0.3.0": "required", "gem:webpush@1.1.0": "required", "gem:hkdf@0.3.0": "excluded", "gem:racc@1.8.1": "required",
		"gem:nokogiri@1.19.4-x86_64-linux-gnu": "required",
		"npm:ws@npm:8.18.3":                    "required", "npm:debug@npm:4.4.1": "optional", "npm:@esbuild/darwin-x64@npm:0.25.12": "excluded",
	}
	purls := map[string]string{
		"gem:racc@1.8.1":                      "pkg:gem/racc@1.8.1?platform=x86_64-linux-gnu",
		"gem:webpush@1.1.0":                   "pkg:gem/webpush@1.1.0?vcs_url=git%2Bhttps:%2F%2Fgithub.com%2Fmastodon%2Fwebpush.git%409631ac63045cfabddacc69fc06e919b4c13eb913",
		"npm:@babel/core@npm:7.28.0":          "pkg:npm/%40babel/core@7.28.0",
		"npm:emoji-mart-lazyload@npm:3.0.1-j": "pkg:npm/emoji-mart-lazyload@3.0.1-j",
		"tool:node":                           "pkg:generic/node@24.10.0",
	}
	seen := map[string]Component{}
	for _, c := range b.Components {
		if _, twice := seen[c.Ref]; twice {
			t.Errorf("%s stands there twice", c.Ref)
		}
		seen[c.Ref] = c
	}
	for ref, want := range scopes {
		if got := seen[ref].Scope; got != want {
			t.Errorf("%s is %q, not %q", ref, got, want)
		}
	}
	for ref, want := range purls {
		if got := seen[ref].Purl; got != want {
			t.Errorf("%s is %q, not %q", ref, got, want)
		}
	}
	if _, ok := seen["npm:@mastodon/streaming@workspace:streaming"]; ok {
		t.Error("a part of the source stands among what it needs")
	}
	if b.Metadata.Component.Purl != "pkg:github/mastodon/mastodon@v4.5.15" || b.Metadata.Timestamp.Format(time.RFC3339) != "2026-11-20T08:30:00Z" {
		t.Errorf("%+v", b.Metadata)
	}
	for _, d := range b.Dependencies {
		for _, on := range d.DependsOn {
			if _, ok := seen[on]; !ok {
				t.Errorf("%s needs %s, which is no component", d.Ref, on)
			}
		}
		if d.Ref == "gem:webpush@1.1.0" && !slices.Equal(d.DependsOn, []string{"gem:hkdf@0.3.0", "gem:jwt@2.10.2"}) {
			t.Errorf("webpush needs %v", d.DependsOn)
		}
	}
	if len(seen["gem:base64@0.3.0"].Hashes) != 1 || len(seen["gem:jwt@2.10.2"].Hashes) != 0 {
		t.Error("hashes are not those of the lock")
	}
}

func TestTheSameMaterialsMakeTheSameBillAndOthersAnother(t *testing.T) {
	text := func(m Materials) string {
		t.Helper()
		b, err := NewBom(m)
		if err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	m := someMaterials(t)
	one := text(m)
	if text(someMaterials(t)) != one {
		t.Error("two bills of one build differ")
	}
	m.Gaps = []string{"cannot read yarn.lock"}
	other := text(m)
	serial := func(s string) string { _, s, _ = strings.Cut(s, `"serialNumber":`); return s[:50] }
	if serial(one) == serial(other) || !strings.Contains(other, "cannot read yarn.lock") {
		t.Errorf("a gap is not to be seen: %s", serial(other))
	}
}

func TestABillIsWhatTheOfficialSchemaSays(t *testing.T) {
	dir := os.Getenv("REFIT_CYCLONEDX_SCHEMAS")
	if dir == "" {
		t.Skip("not held to CycloneDX's schema: REFIT_CYCLONEDX_SCHEMAS names no folder with its bom-1.6.schema.json, spdx.schema.json and jsf-0.82.schema.json")
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, name := range []string{"bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schema.json"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		if err == nil {
			err = c.AddResource("http://cyclonedx.org/schema/"+name, doc)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	bill := func(change func(*Bom)) any {
		b, err := NewBom(someMaterials(t))
		if err != nil {
			t.Fatal(err)
		}
		change(&b)
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if err := schema.Validate(bill(func(*Bom) {})); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Bom){
		"a scope that is none":  func(b *Bom) { b.Components[0].Scope = "perhaps" },
		"a serial that is none": func(b *Bom) { b.Serial = "1" },
		"a hash that is none":   func(b *Bom) { b.Components[0].Hashes = []Hash{{"SHA-3", "x"}} },
		"a component twice":     func(b *Bom) { b.Components = append(b.Components, b.Components[0]) },
	} {
		if err := schema.Validate(bill(spoil)); err == nil {
			t.Errorf("%s passes: the schema is not what it should be", name)
		}
	}
}
