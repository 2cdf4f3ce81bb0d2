package builds

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// GemIndex finds a version of a gem (with its platform: "1.19.4-x86_64-linux-gnu") on
// the gem's page of Bundler's compact index, whose lines are
// "VERSION NEEDS|checksum:SHA256,ruby:…". The checksum is in lower hex, empty where the
// page has none, and as it stands there where it is no SHA-256. A version that was
// yanked and pushed again stands there twice: the last counts.
func GemIndex(page []byte, version string) (sum string, served bool) {
	for line := range strings.Lines(string(page)) {
		has, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if has != version {
			continue
		}
		sum, served = "", true
		_, marks, _ := strings.Cut(rest, "|")
		for mark := range strings.SplitSeq(marks, ",") {
			if s, ok := strings.CutPrefix(mark, "checksum:"); ok {
				sum = hexSum(s)
			}
		}
	}
	return sum, served
}

// hexSum is a SHA-256 in lower hex. Registries write it in hex or, as RubyGems' own
// tools do, in either of base64's alphabets, with or without its padding
// (Bundler::Checksum.to_hexdigest). What is neither stays as it is.
func hexSum(s string) string {
	if b, err := hex.DecodeString(s); err == nil && len(b) == 32 {
		return strings.ToLower(s)
	}
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	if b, err := base64.RawStdEncoding.DecodeString(plain); err == nil && len(b) == 32 {
		return hex.EncodeToString(b)
	}
	return s
}
