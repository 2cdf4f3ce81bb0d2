// Package attest writes what a build says of itself for others' programs: a bill of
// materials (CycloneDX 1.6) from the lock files, and its provenance (an in-toto
// statement with SLSA's predicate, version 1). It is pure: what lies on the host is
// handed in.
//
// Both are written by hand, without the libraries of their formats: a few structs say
// what refit says. Tests hold them to the official schemas where those are at hand.
package attest

import "strings"

// purl makes a package URL (github.com/package-url/purl-spec): name may hold slashes,
// which part the namespace from it; qualifiers are pairs of key and value, in rising
// order of key; one without a value is left out.
func purl(kind, name, version string, qualifiers ...[2]string) string {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		parts = append(parts, escape(part))
	}
	u := "pkg:" + kind + "/" + strings.Join(parts, "/")
	if version != "" {
		u += "@" + escape(version)
	}
	separator := "?"
	for _, q := range qualifiers {
		if q[1] != "" {
			u += separator + q[0] + "=" + escape(q[1])
			separator = "&"
		}
	}
	return u
}

// escape writes a part of a package URL: letters, digits and ".-_~:" stand for themselves.
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-_~:", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
		}
	}
	return b.String()
}
