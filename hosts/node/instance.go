package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// Credential is the system credential that names a machine, for hosts whose firmware
// does not: containers above all (systemd-nspawn --set-credential).
const Credential = "refit.instance"

// Instance tells one machine from every other, also from its own clone.
type Instance struct {
	// ID is the droplet's id on DigitalOcean, else what From gives.
	ID string `json:"id"`
	// From is where it was read: "credential", "product_serial" or "product_uuid".
	From string `json:"from"`
}

// instanceForm is what a credential may hold; droplets' ids and UUIDs fit.
var instanceForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

var (
	dropletID = regexp.MustCompile(`^[1-9][0-9]*$`)
	dmiUUID   = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
)

// noUUID are what boards say that were given none: zeros, ones, and a sample that
// vendors left in (systemd knows the same ones, sd-id128, product_uuid).
var noUUID = []string{
	"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "03000200-0400-0500-0006-000700080009",
}

// instance finds out which machine this is. Nothing that a disk's image brings with
// it counts (machine-id, ssh keys, cloud-init's files): a clone has them too. So it
// is asked of who started the machine, in this order: a system credential, the
// droplet's id in the firmware's serial number (as cloud-init's DigitalOcean data source reads it),
// the firmware's UUID.
func (m Machine) instance() (Instance, error) {
	if id, err := m.credential(); err != nil || id != "" {
		return Instance{ID: id, From: "credential"}, err
	}
	// A container sees the firmware of the machine below, which its clone would see too.
	if kind, err := os.ReadFile(m.root("run/systemd/container")); err == nil {
		return Instance{}, fmt.Errorf("cannot tell which machine this is: it is a container (%s) without the system credential %s; start it with one (systemd-nspawn --set-credential=%s:ID)",
			strings.TrimSpace(string(kind)), Credential, Credential)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Instance{}, fmt.Errorf("cannot tell which machine this is: %w", err)
	}
	vendor, err := m.dmi("sys_vendor")
	if err != nil {
		return Instance{}, err
	}
	board, err := m.dmi("board_vendor")
	if err != nil {
		return Instance{}, err
	}
	if vendor == "DigitalOcean" || board == "DigitalOcean" {
		serial, err := m.dmi("product_serial")
		if err != nil {
			return Instance{}, err
		}
		if dropletID.MatchString(serial) {
			return Instance{ID: serial, From: "product_serial"}, nil
		}
	}
	uuid, err := m.dmi("product_uuid")
	if err != nil {
		return Instance{}, err
	}
	uuid = strings.ToLower(uuid)
	for _, none := range noUUID {
		if uuid == none {
			uuid = ""
		}
	}
	if !dmiUUID.MatchString(uuid) {
		return Instance{}, fmt.Errorf("cannot tell which machine this is: its firmware gives neither a droplet's serial number nor a UUID (%s), and it was not given the system credential %s",
			m.root("sys/class/dmi/id"), Credential)
	}
	return Instance{ID: uuid, From: "product_uuid"}, nil
}

// credential reads the machine's own credential; empty for none. A unit with mounts of
// its own does not see /run/credentials (systemd hides it from services), not even in a
// command with "+"; the first process's view has it.
func (m Machine) credential() (string, error) {
	for _, path := range []string{
		m.root("run/credentials/@system", Credential),
		m.root("proc/1/root/run/credentials/@system", Credential),
		m.root("run/host/credentials", Credential),
	} {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot tell which machine this is: %w", err)
		}
		id := strings.TrimSpace(string(b))
		if !instanceForm.MatchString(id) {
			return "", fmt.Errorf("cannot tell which machine this is: the system credential %s is no name of letters, digits, dots and dashes", Credential)
		}
		return id, nil
	}
	return "", nil
}

// dmi reads one of the firmware's words; empty where it has none. Those that name the
// machine are root's to read.
func (m Machine) dmi(name string) (string, error) {
	b, err := os.ReadFile(m.root("sys/class/dmi/id", name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot tell which machine this is: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
