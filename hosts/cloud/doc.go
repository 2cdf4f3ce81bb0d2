// Package cloud is the fleet's cloud account, DigitalOcean's: droplets, images, load
// balancers, databases and firewalls. All of its API is spoken here and nowhere else.
//
// What only reads is asked again when it fails. What writes is sent once: when its
// answer is lost, the effect is looked for, since a second snapshot, droplet or database
// costs money and a person's time.
package cloud
