package mastodon

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"

	"vmst.io/refit/hosts/node"
)

// DumpToolsIn asks for the programs that dump a database.
type DumpToolsIn struct{}

// DumpTools are the versions of PostgreSQL whose pg_dump and pg_restore a host has, in
// rising order.
type DumpTools struct {
	Tools []DumpTool `json:"tools"`
}

// DumpTool is a pg_dump with the pg_restore beside it.
type DumpTool struct {
	// Dir holds both.
	Dir string `json:"dir"`
	// Version is "17.6", Major 17.
	Version string `json:"version"`
	Major   int    `json:"major"`
}

// For picks what dumps a server of a major version: its own version, else the next newer
// one. pg_dump refuses servers that are newer than itself.
func (t DumpTools) For(major int) (DumpTool, bool) {
	i := slices.IndexFunc(t.Tools, func(x DumpTool) bool { return x.Major >= major })
	if i < 0 {
		return DumpTool{}, false
	}
	return t.Tools[i], true
}

// DumpPackage is the package that brings pg_dump for a server of a major version, as
// Debian, Ubuntu and PostgreSQL's own repository for both (apt.postgresql.org) name it.
func DumpPackage(major int) string { return "postgresql-client-" + strconv.Itoa(major) }

// DumpIn says what to dump.
type DumpIn struct {
	Layout Layout `json:"layout"`
	Direct Direct `json:"direct"`
	// Major is the server's major version.
	Major int `json:"major"`
}

// DumpOut is what is known of a dump that was written to its end.
type DumpOut struct {
	// Program is pg_dump's version.
	Program string `json:"program"`
}

// DumpListIn says with what to read an archive.
type DumpListIn struct {
	Layout Layout `json:"layout"`
	// Major is the major version of the server that was dumped.
	Major int `json:"major"`
}

// DumpList is what an archive's table of contents says.
type DumpList struct {
	// Entries counts all that it names, Tables those whose rows are in the archive.
	Entries int `json:"entries"`
	Tables  int `json:"tables"`
	// Database is the name of the database that was dumped.
	Database string `json:"database"`
	// Migrations: it holds the table that says which migrations were applied.
	Migrations bool `json:"migrations"`
}

// FindDumpTools looks for programs that dump a database.
func FindDumpTools(ctx context.Context, a *node.Agent) (DumpTools, error) {
	return call[DumpTools](ctx, a, "database.dumptools", DumpToolsIn{}, nil)
}

// Dump writes an archive of the whole database to w, as pg_dump -Fc makes it. The host
// reads the password itself. Only without an error is what w got a whole archive.
func Dump(ctx context.Context, a *node.Agent, in DumpIn, w io.Writer, say func(string)) (DumpOut, error) {
	var out DumpOut
	err := a.Stream(ctx, "database.dump", in, w, &out, say)
	return out, err
}

// ListDump reads an archive's table of contents, which stands at its beginning: what
// comes after it need not be sent.
func ListDump(ctx context.Context, a *node.Agent, in DumpListIn, archive io.Reader) (DumpList, error) {
	var out DumpList
	err := a.Call(ctx, "database.dumplist", in, archive, &out, nil)
	return out, err
}

// readDumpList reads what pg_restore --list prints: comments that begin with a semicolon,
// then an entry a line, "4521; 0 16623 TABLE DATA public schema_migrations mastodon".
func readDumpList(text string) DumpList {
	var out DumpList
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, ";"); ok {
			if name, ok := strings.CutPrefix(strings.TrimSpace(rest), "dbname: "); ok {
				out.Database = name
			}
			continue
		}
		_, rest, ok := strings.Cut(line, "; ")
		if !ok {
			continue
		}
		out.Entries++
		if words := strings.Fields(rest); len(words) >= 6 && words[2] == "TABLE" && words[3] == "DATA" {
			out.Tables++
			out.Migrations = out.Migrations || words[5] == "schema_migrations"
		}
	}
	return out
}
