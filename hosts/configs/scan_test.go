package configs_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"vmst.io/refit/hosts/configs"
)

// lot is a random value of some bytes; its seed makes it the same in every run.
func lot(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 3))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rng.IntN(256))
	}
	return out
}

func TestWhatLooksLikeASecretIsFound(t *testing.T) {
	hexed, based := hex.EncodeToString(lot(32, 1)), base64.StdEncoding.EncodeToString(lot(24, 2))
	for _, line := range []string{
		"SECRET_KEY_BASE=" + hexed, "OTP_SECRET=x", "export VAPID_PRIVATE_KEY='" + based + "'", "DB_PASS=hunter2", "DB_PASS = \"hunter two\"",
		"ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY=abc", "ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY=abc", "ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT=abc",
		"REDIS_PASSWORD: hunter2", "SMTP_PASSWORD=hunter2", "AWS_SECRET_ACCESS_KEY=x", "ES_PASS=x", "DEEPL_API_KEY=x", "secret_key_base: x",
		"# DB_PASS=hunter2", "DB_PASS=hunter2 # " + configs.Allow, "DB_PASS=@refit-secret(DB_PASS)@hunter2", "DB_PASS=$ecret!",
		"Environment=DB_PASS=hunter2", `Environment="RAILS_ENV=production" "DB_PASS=hunter2"`, `Environment="A=b DB_PASS=hunter2"`, `{"DB_PASS": "hunter2"}`,
		"-----BEGIN PRIVATE KEY-----", "-----BEGIN OPENSSH PRIVATE KEY-----", "  -----BEGIN RSA PRIVATE KEY-----", "-----BEGIN PGP PRIVATE KEY BLOCK-----",
		"x ghp_" + strings.Repeat("a1B2", 9), "github_pat_" + strings.Repeat("a1B2", 10), "xoxb-123456789012-abcdef", "https://hooks.slack.com/services/T00/B00/abcdef",
		"dop_v1_" + strings.Repeat("0123456789abcdef", 4), "SG." + strings.Repeat("a", 22) + "." + strings.Repeat("b", 43),
		"DATABASE_URL=postgres://mastodon:hunter2@majel:25060/mastodon", "proxy_pass http://user:hunter2@10.0.0.1/;", "redis://:hunter2@redis:6379",
		"MY_OWN_TOKEN=" + based, "session_key: " + hexed, "api_key = \"" + hexed + "\"", "  auth_token " + hexed + ";", "password: hunter2", "MATRIX_PASSWORD=correct",
	} {
		for _, before := range []string{"", "a=b\r\n", "one\ntwo\n"} {
			found := configs.Scan(map[string][]byte{"f": []byte(before + line + "\nlast\n")})
			if len(found) != 1 || found[0].Path != "f" || found[0].Line != strings.Count(before, "\n")+1 || found[0].Rule == "" {
				t.Errorf("%q: %+v", line, found)
			}
			for _, value := range []string{"hunter", hexed, based} {
				if strings.Contains(fmt.Sprintf("%+v", found), value) {
					t.Errorf("%q: the value stands in %+v", line, found)
				}
			}
		}
	}
}

func TestWhatOnlyNamesASecretIsNone(t *testing.T) {
	clean := `# DB_PASS: of the database, see /etc/refit/secrets.env
DB_PASS=@refit-secret(DB_PASS)@
DB_PASS="@refit-secret(DB_PASS)@"
SMTP_PASSWORD=
SMTP_PASSWORD=""
REDIS_PASSWORD=${REDIS_PASSWORD}
VAPID_PUBLIC_KEY=BIw8r1vZ4kQ9f7s2n0QXc3m5l6p7o8i9u0y1t2r3e4w5q6a7s8d9f0g1h2j3k4l5
DATABASE_URL=postgres://mastodon:@refit-secret(DB_PASS)@@majel:25060/mastodon
DATABASE_URL=postgres://mastodon@majel:25060/mastodon
ssl_certificate_key /etc/ssl/private/vmst.io-2026.key;
ssl_certificate     /etc/ssl/certs/vmst.io-2026.pem;
proxy_pass http://backend-1234567890abcdef;
proxy_cache_key $scheme$proxy_host$request_uri;
key: ~/.ssh/refit-2026-production-1
token: {env: GITHUB_TOKEN}
fingerprint_key: SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU
    sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
commit: 2cc7cb6b1f0a4a2ec4a7f3a3b9be93ef0a3d2c11
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0d0Vh4zq7Y1v2mJwq6Q0gq9mC0y4S5dYyYd2gq1R2x refit
PasswordAuthentication no
user_password: required
AWS_ACCESS_KEY_ID=refit
S3_ALIAS_HOST=cdn.vmst.io
session_key: a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1
session_key: /run/keys/9f86d081884c7d659a2feaa0c55ad015
odd_key: 9f86d081884c7d659a2feaa0c55ad015 # refit:no-secret, a cache key
`
	if found := configs.Scan(map[string][]byte{"etc/file": []byte(clean)}); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
	template := "DB_PASS={{secret \"DB_PASS\"}}\nDATABASE_URL=postgres://m:{{secret \"DB_PASS\"}}@h/m\nREDIS_PASSWORD={{ .Host.Name }}\n"
	if found := configs.Scan(map[string][]byte{"a.tmpl": []byte(template)}); len(found) > 0 {
		t.Errorf("in a template %+v", found)
	}
	if found := configs.Scan(map[string][]byte{"a": []byte(template)}); len(found) == 0 {
		t.Error("what is copied as it is has actions in the place of values")
	}
	if found := configs.Scan(map[string][]byte{"a.tmpl": []byte("DB_PASS=x{{.Host.Name}}\n")}); len(found) != 1 {
		t.Errorf("beside an action: %+v", found)
	}
}

func TestFindingsAreInOrder(t *testing.T) {
	files := map[string][]byte{"b": []byte("DB_PASS=x\n\nES_PASS=y"), "a": []byte("\nOTP_SECRET=z\n"), "c": nil, "d": {0, 255, '\n'}}
	for range 20 {
		got := fmt.Sprint(configs.Scan(files))
		want := "[{a 2 the value of a name that is known to be secret OTP_SECRET} {b 1 the value of a name that is known to be secret DB_PASS} {b 3 the value of a name that is known to be secret ES_PASS}]"
		if got != want {
			t.Fatalf("got %s", got)
		}
	}
}

// FuzzScan: whatever a file holds, scanning it ends, says the same twice, and never
// shows what stands in it: a finding's words are the rules' own.
func FuzzScan(f *testing.F) {
	for _, text := range []string{"DB_PASS=" + canary, canary + "TOKEN=" + canary + "abcdef0123456789", "x://a:" + canary + "@h", "Environment=\"" + canary + "_KEY=" + canary + "aaaa1234\"", "ghp_" + canary + canary, "-----BEGIN " + canary + " PRIVATE KEY-----", "{{" + canary, "@refit-secret(" + canary, "\x00=\x00", "a:\"\\"} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, isTemplate bool) {
		name := "f"
		if isTemplate {
			name = "f.tmpl"
		}
		files := map[string][]byte{name: []byte(text)}
		found := configs.Scan(files)
		if fmt.Sprint(found) != fmt.Sprint(configs.Scan(files)) {
			t.Error("it says something else the second time")
		}
		for _, x := range found {
			if strings.Contains(fmt.Sprintf("%+v", x), canary) {
				t.Errorf("the value stands in %+v", x)
			}
			if x.Line < 1 || x.Line > strings.Count(text, "\n")+1 {
				t.Errorf("line %d of %d", x.Line, strings.Count(text, "\n")+1)
			}
		}
	})
}
