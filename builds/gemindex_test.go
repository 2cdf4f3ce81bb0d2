package builds_test

import (
	"testing"

	"vmst.io/refit/builds"
)

func TestAChecksumOfTheIndexIsReadInEachFormThatRegistriesWrite(t *testing.T) {
	const sum = "426f0cfa0e725cef4f6518ab24f7dd0290dded630fc39615f364fba9846f6c53"
	for mark, want := range map[string]string{
		sum: sum,
		"426F0CFA0E725CEF4F6518AB24F7DD0290DDED630FC39615F364FBA9846F6C53": sum,
		"Qm8M+g5yXO9PZRirJPfdApDd7WMPw5YV82T7qYRvbFM=":                     sum,
		"Qm8M-g5yXO9PZRirJPfdApDd7WMPw5YV82T7qYRvbFM":                      sum,
		"":     "",
		"00":   "00",
		"Qm8M": "Qm8M",
	} {
		page := "---\n8.0.4 |checksum:11\n8.0.4.1 activesupport:= 8.0.4.1|checksum:" + mark + ",ruby:>= 3.2.0\n8.0.4.1-java |checksum:22\n"
		if got, served := builds.GemIndex([]byte(page), "8.0.4.1"); got != want || !served {
			t.Errorf("%q is read as %q, served %t", mark, got, served)
		}
	}
}

func TestAVersionThatStandsTwiceInTheIndexCountsAsTheLastOne(t *testing.T) {
	for page, want := range map[string]struct {
		sum    string
		served bool
	}{
		"1.0.0 |checksum:aa\n1.0.0 |checksum:bb\n": {"bb", true},
		"1.0.0 |checksum:aa\n1.0.0 |ruby:>= 3\n":   {"", true},
		"1.0.0 rack:>= 2":                          {"", true},
		"1.0.0":                                    {"", true},
		"1.0.0-java |checksum:aa\n":                {"", false},
		"":                                         {"", false},
	} {
		if sum, served := builds.GemIndex([]byte(page), "1.0.0"); sum != want.sum || served != want.served {
			t.Errorf("%q: %q, %t", page, sum, served)
		}
	}
}
