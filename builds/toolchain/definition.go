package toolchain

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// component is an archive that a definition of ruby-build's asks for, and what is
// done with it.
type component struct {
	// name is the package's and, once unpacked, its folder's: "ruby-3.4.7".
	name string
	url  string
	// sha256 in hex; empty where the definition gives none.
	sha256 string
	steps  []string
}

// file is the name under which ruby-build looks for it in RUBY_BUILD_CACHE_PATH.
func (c component) file() string {
	if strings.HasSuffix(c.url, "bz2") {
		return c.name + ".tar.bz2"
	}
	return c.name + ".tar.gz"
}

var (
	definitionWord = regexp.MustCompile(`"([^"$\x60\\]*)"|'([^'$\x60\\]*)'|([^\s"'$\x60\\;&|<>(){}]+)`)
	componentName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
	hexSHA256      = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// readDefinition reads which archives a definition needs, in order. A definition is a
// piece of shell; those of C Ruby hold nothing but lines of install_package. What does
// more is refused: refit could not fetch for it beforehand.
//
// An OpenSSL that ruby-build would bring "if needs_openssl" is left out: the host's own
// serves every Ruby since 3.1, is mended by the host's updates, and is asked for
// before anything starts.
func readDefinition(version, text string) ([]component, error) {
	var out []component
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		words, ok := definitionWords(line)
		if !ok || len(words) < 3 || words[0] != "install_package" {
			return nil, fmt.Errorf("line %d is none of install_package, and refit fetches for no other: %s", n, line)
		}
		c := component{name: words[1], steps: words[3:]}
		var sum string
		c.url, sum, _ = strings.Cut(words[2], "#")
		if sum = strings.ToLower(sum); hexSHA256.MatchString(sum) {
			c.sha256 = sum
		}
		if i := len(c.steps) - 2; i >= 0 && c.steps[i] == "--if" {
			if strings.HasPrefix(c.steps[i+1], "needs_openssl") {
				continue
			}
			return nil, fmt.Errorf("line %d asks for %s, which refit cannot tell beforehand", n, c.steps[i+1])
		}
		if !componentName.MatchString(c.name) || !strings.HasPrefix(c.url, "http://") && !strings.HasPrefix(c.url, "https://") {
			return nil, fmt.Errorf("line %d names no archive that can be fetched: %s", n, line)
		}
		if !strings.HasSuffix(c.url, ".gz") && !strings.HasSuffix(c.url, ".tgz") && !strings.HasSuffix(c.url, "bz2") {
			return nil, fmt.Errorf("line %d names %s, which ruby-build does not unpack: a .tar.gz or .tar.bz2 is needed", n, path.Base(c.url))
		}
		out = append(out, c)
	}
	if len(out) == 0 || out[len(out)-1].name != "ruby-"+version {
		return nil, fmt.Errorf("it does not end with install_package \"ruby-%s\"", version)
	}
	return out, nil
}

// definitionWords splits a line of shell that holds plain and quoted words alone.
func definitionWords(line string) ([]string, bool) {
	var out []string
	for line != "" {
		at := definitionWord.FindStringSubmatchIndex(line)
		if at == nil || at[0] != 0 {
			return nil, false
		}
		word := ""
		for i := 2; i < len(at); i += 2 {
			if at[i] >= 0 {
				word = line[at[i]:at[i+1]]
			}
		}
		out = append(out, word)
		rest := line[at[1]:]
		line = strings.TrimLeft(rest, " \t")
		if line != "" && line == rest {
			return nil, false // two words in one
		}
	}
	return out, true
}
