package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

// Fence puts a cloud firewall's rules on a host's link, outside of the host: what no rule
// lets through vanishes, in both directions, and so do the packets of connections that are
// open. on false takes all rules off. The host may be off or not be there yet.
func (d Droplets) Fence(ctx context.Context, droplet string, rules []cloudtest.Rule, on bool) error {
	script, err := fence(droplet, rules, on)
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "nft", "-f", "-")
	c.Stdin = strings.NewReader(script)
	var errs bytes.Buffer
	c.Stderr = &errs
	// The child takes the namespace of the thread that forks it.
	err = inNamespace(netns, c.Start)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		return fmt.Errorf("cannot set the firewall of %s: nft: %w%s", droplet, err, tail(errs.String()))
	}
	return nil
}

// portRange is what a rule names ports by, besides all.
var portRange = regexp.MustCompile(`^\d{1,5}(-\d{1,5})?$`)

// fence is the script for nft that replaces one host's table. It follows no connections,
// since not every kernel can at a bridge: for each rule the answers are let back by their
// source, and over TCP only what does not open a connection.
func fence(host string, rules []cloudtest.Rule, on bool) (string, error) {
	table := "fence_" + shortSum(host)
	var b strings.Builder
	fmt.Fprintf(&b, "add table bridge %s\ndelete table bridge %s\n", table, table)
	if !on {
		return b.String(), nil
	}
	var to, from []string
	for _, r := range rules {
		there, back, err := passing(r)
		if err != nil {
			return "", fmt.Errorf("cannot set the firewall of %s: %w", host, err)
		}
		if r.In {
			to, from = append(to, there...), append(from, back...)
		} else {
			from, to = append(from, there...), append(to, back...)
		}
	}
	fmt.Fprintf(&b, "table bridge %s {\n", table)
	for _, c := range []struct {
		name  string
		lines []string
	}{{"into", to}, {"outof", from}} {
		// Without ARP no neighbour is found; a cloud answers it by itself.
		fmt.Fprintf(&b, "\tchain %s {\n\t\tether type arp accept\n", c.name)
		for _, line := range c.lines {
			b.WriteString("\t\t" + line + " accept\n")
		}
		b.WriteString("\t\tdrop\n\t}\n")
	}
	for _, hook := range []string{"forward", "input", "output"} {
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype filter hook %s priority 0; policy accept;\n", hook, hook)
		if hook != "input" {
			fmt.Fprintf(&b, "\t\toifname %q jump into\n", veth(host))
		}
		if hook != "output" {
			fmt.Fprintf(&b, "\t\tiifname %q jump outof\n", veth(host))
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String(), nil
}

// passing are the matches of one rule, for what it lets through and for the answers.
func passing(r cloudtest.Rule) (there, back []string, err error) {
	far, answers := "daddr", "saddr"
	if r.In {
		far, answers = "saddr", "daddr"
	}
	for _, a := range r.Addresses {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			one, aerr := netip.ParseAddr(a)
			if aerr != nil {
				return nil, nil, fmt.Errorf("a rule has the address %q", a)
			}
			p = netip.PrefixFrom(one, one.BitLen())
		}
		if !p.Addr().Is4() {
			continue // the lab speaks IPv4 alone
		}
		var port, answer string
		switch r.Protocol {
		case "tcp", "udp":
			port, answer = " ip protocol "+r.Protocol, " ip protocol "+r.Protocol
			if r.Protocol == "tcp" {
				answer += " tcp flags & (syn | ack) != syn"
			}
			if ports := r.Ports; ports != "all" && ports != "0" && ports != "" {
				if !portRange.MatchString(ports) {
					return nil, nil, fmt.Errorf("a rule has the ports %q", ports)
				}
				port += " " + r.Protocol + " dport " + ports
				answer += " " + r.Protocol + " sport " + ports
			}
		case "icmp":
			port, answer = " ip protocol icmp", " ip protocol icmp"
		default:
			return nil, nil, fmt.Errorf("a rule has the protocol %q, not tcp, udp or icmp", r.Protocol)
		}
		there = append(there, fmt.Sprintf("ip %s %s%s", far, p.Masked(), port))
		back = append(back, fmt.Sprintf("ip %s %s%s", answers, p.Masked(), answer))
	}
	return there, back, nil
}
