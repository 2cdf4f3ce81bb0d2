package builds

import (
	"regexp"
	"slices"
	"strings"
)

// The environment names that a release's code reads. A name is what stands as a
// literal in one of the forms below; where only running code knows the name, the
// place is said as unknown, so that nobody takes the list for complete.

// envName is a name as shells and Mastodon write it.
const envName = `[A-Za-z_][A-Za-z0-9_]*`

var (
	// envRuby is the environment of Ruby with what is asked of it. The list of
	// methods holds those that take names.
	envRuby    = regexp.MustCompile(`\bENV\b(\s*\[|\.(?:fetch|key\?|has_key\?|include\?|member\?|dig|delete|values_at|slice|fetch_values)(?:\s*\(|[ \t]+)|\.\w+[?!]?)?`)
	envLiteral = regexp.MustCompile(`^\s*(?:'(` + envName + `)'|"(` + envName + `)")`)
	envNext    = regexp.MustCompile(`^\s*,\s*(?:'(` + envName + `)'|"(` + envName + `)")`)
	envWritten = regexp.MustCompile(`^[^\]\n]*\]\s*=[^=~]`)

	envNode       = regexp.MustCompile(`\bprocess\.env\b(\??\.(` + envName + `)|(?:\?\.)?\s*\[)?`)
	envUnpacked   = regexp.MustCompile(`\{([^{}]*)\}\s*=\s*process\.env\b`)
	envUnpackName = regexp.MustCompile(`^\s*(` + envName + `)\s*(?:[:=].*)?$`)
	envIn         = regexp.MustCompile(`(?:'(` + envName + `)'|"(` + envName + `)")\s+in\s+process\.env\b`)

	// commented are lines that hold nothing but a comment, in Ruby, YAML, HAML, ERB and JavaScript.
	commented = regexp.MustCompile(`^\s*(?:#|//|/?\*|-#|<%#|<!--)`)
)

// envManyNames are the methods that take several names.
var envManyNames = regexp.MustCompile(`values_at|slice|fetch_values`)

// envRead is what one file says.
type envRead struct {
	// code and comments are the names that code reads, and those that comments mention.
	code, comments []string
	// unknown are lines that read names which only running code knows.
	unknown []string
}

// readEnv finds the names in a file's text.
func readEnv(text string) envRead {
	var r envRead
	if strings.Contains(text, "ENV") {
		r.ruby(text)
	}
	if strings.Contains(text, "process.env") {
		r.node(text)
	}
	return r
}

func (r *envRead) ruby(text string) {
	for _, at := range envRuby.FindAllStringSubmatchIndex(text, -1) {
		line := lineAt(text, at[0])
		inComment := commented.MatchString(line)
		asked := ""
		if at[2] >= 0 {
			asked = text[at[2]:at[3]]
		}
		rest := text[at[1]:]
		name, n := firstName(envLiteral, rest)
		switch {
		case name != "" && asked != "" && (strings.HasSuffix(asked, "[") || strings.HasSuffix(asked, "(") || strings.TrimRight(asked, " \t") != asked):
			r.add(name, inComment)
			for envManyNames.MatchString(asked) {
				rest = rest[n:]
				if name, n = firstName(envNext, rest); name == "" {
					break
				}
				r.add(name, inComment)
			}
		case inComment, asked == "" && !wholeRuby(line):
		case strings.HasSuffix(asked, "[") && envWritten.MatchString(rest):
		default:
			r.unknown = append(r.unknown, strings.TrimSpace(line))
		}
	}
}

// wholeArgument is ENV given or assigned as a whole.
var wholeArgument = regexp.MustCompile(`[(,=]\s*(?:::)?ENV\b\s*(?:[),]|$)`)

// wholeRuby tells whether a line that names ENV without asking anything of it
// hands the whole environment on. Prose and Dockerfiles name it too.
func wholeRuby(line string) bool { return wholeArgument.MatchString(line) }

func (r *envRead) node(text string) {
	covered := map[int]bool{} // ends of process.env that a longer form has explained
	for _, at := range envUnpacked.FindAllStringSubmatchIndex(text, -1) {
		inComment := commented.MatchString(lineAt(text, at[0]))
		known := true
		for _, part := range strings.Split(text[at[2]:at[3]], ",") {
			if m := envUnpackName.FindStringSubmatch(part); m != nil {
				r.add(m[1], inComment)
			} else if strings.TrimSpace(part) != "" {
				known = false // a rest, or a name that is computed
			}
		}
		covered[at[1]] = known
	}
	for _, at := range envIn.FindAllStringSubmatchIndex(text, -1) {
		r.add(group(text, at, 1)+group(text, at, 2), commented.MatchString(lineAt(text, at[0])))
		covered[at[1]] = true
	}
	for _, at := range envNode.FindAllStringSubmatchIndex(text, -1) {
		line := lineAt(text, at[0])
		inComment := commented.MatchString(line)
		asked, name := group(text, at, 1), group(text, at, 2)
		if strings.HasSuffix(asked, "[") {
			name, _ = firstName(envLiteral, text[at[1]:])
		}
		switch {
		case name != "":
			r.add(name, inComment)
		case inComment, covered[at[1]]:
		default:
			r.unknown = append(r.unknown, strings.TrimSpace(line))
		}
	}
}

func (r *envRead) add(name string, inComment bool) {
	if inComment {
		r.comments = append(r.comments, name)
	} else {
		r.code = append(r.code, name)
	}
}

func group(text string, at []int, n int) string {
	if at[2*n] < 0 {
		return ""
	}
	return text[at[2*n]:at[2*n+1]]
}

// firstName is the quoted name with which text begins, and its end.
func firstName(form *regexp.Regexp, text string) (name string, end int) {
	m := form.FindStringSubmatchIndex(text)
	if m == nil {
		return "", 0
	}
	return group(text, m, 1) + group(text, m, 2), m[1]
}

// lineAt is the line of text that holds the byte at.
func lineAt(text string, at int) string {
	from := strings.LastIndexByte(text[:at], '\n') + 1
	if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
		return strings.TrimRight(text[from:at+n], "\r")
	}
	return text[from:]
}

// Env is what a release's code reads from its environment.
type Env struct {
	// Names that stand in the code, or in a comment of it, sorted.
	Names []string `json:"names"`
	// Comments are those of Names that no code reads, only comments mention:
	// what a library reads is often written there.
	Comments []string `json:"comments"`
	// Unknown are places that read names which only running code knows, as "file: line".
	Unknown []string `json:"unknown"`
}

// envScope tells whether a file belongs to the code whose names count.
func envScope(file string) bool {
	for _, dir := range []string{"app/", "config/", "lib/", "streaming/", "bin/", "vite.config."} {
		if strings.HasPrefix(file, dir) {
			return true
		}
	}
	return false
}

// gatherEnv joins what files say, by path.
func gatherEnv(files map[string]envRead) Env {
	e := Env{Names: []string{}, Comments: []string{}, Unknown: []string{}}
	var code []string
	for file, r := range files {
		code = append(code, r.code...)
		e.Comments = append(e.Comments, r.comments...)
		for _, line := range r.unknown {
			e.Unknown = append(e.Unknown, file+": "+line)
		}
	}
	code = sorted(code)
	e.Comments = without(sorted(e.Comments), code)
	e.Names = sorted(append(code, e.Comments...))
	e.Unknown = sorted(e.Unknown)
	return e
}

// sorted sorts in place, without doubles; never nil.
func sorted(list []string) []string {
	if list == nil {
		return []string{}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
