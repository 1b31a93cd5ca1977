package cli

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/bmctl/bmctl/power"
)

// infoItem is what a controller says of itself and its system.
type infoItem struct {
	Protocol string `json:"protocol"`
	Version  string `json:"version"`
	Address  string `json:"address"` // host:port that answered
	Vendor   string `json:"vendor"`
	Model    string `json:"model"`
	Firmware string `json:"firmware"`
	Serial   string `json:"serial"`
	UUID     string `json:"uuid"`
	Power    string `json:"power"`
}

type hardwareItem struct {
	Parts      []partItem      `json:"parts"`
	Firmware   []firmwareItem  `json:"firmware"`
	Interfaces []interfaceItem `json:"interfaces"`
}

type partItem struct {
	Name       string `json:"name"`
	Vendor     string `json:"vendor"`
	Model      string `json:"model"`
	PartNumber string `json:"partNumber"`
	Serial     string `json:"serial"`
	AssetTag   string `json:"assetTag"`
}

type firmwareItem struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type interfaceItem struct {
	Owner   string `json:"owner"` // bmc or system
	Name    string `json:"name"`
	MAC     string `json:"mac"`
	Address string `json:"address"`
}

func infoQuestion() question {
	return question{
		verb: "info", short: "Say what machines and their BMCs are: model, serial numbers, firmware, MAC addresses", kind: "InfoList",
		ask: askInfo, facts: infoFacts,
	}
}

// askInfo needs the controller to say what it is; the inventory is told by those
// that have one.
func askInfo(ctx context.Context, bmc power.BMC, _ readFlags, item *readItem) error {
	info, err := bmc.Info(ctx)
	if err != nil {
		return err
	}

	state, err := bmc.State(ctx)
	if err != nil {
		return err
	}

	item.Info = &infoItem{
		Protocol: string(info.Protocol), Version: info.Version, Address: info.AddressInUse, Vendor: info.Vendor, Model: info.Model,
		Firmware: info.Firmware, Serial: info.Serial, UUID: info.UUID, Power: state.String(),
	}

	able, ok := bmc.(power.Inventory)
	if !ok {
		return nil
	}

	hardware, err := able.Inventory(ctx)
	if err != nil {
		return unless(err, power.ErrUnsupported)
	}

	item.Hardware = hardwareOf(hardware)

	return nil
}

// unless lets one kind of error pass as none.
func unless(err, kind error) error {
	if errors.Is(err, kind) {
		return nil
	}

	return err
}

func hardwareOf(h power.Hardware) *hardwareItem {
	item := &hardwareItem{Parts: []partItem{}, Firmware: []firmwareItem{}, Interfaces: []interfaceItem{}}

	for _, p := range h.Parts {
		item.Parts = append(item.Parts, partItem(p))
	}

	for _, f := range h.Firmware {
		item.Firmware = append(item.Firmware, firmwareItem(f))
	}

	for _, i := range h.Interfaces {
		item.Interfaces = append(item.Interfaces, interfaceItem(i))
	}

	return item
}

func infoFacts(item readItem) [][2]string {
	info := item.Info
	facts := [][2]string{
		{"machine", item.Name},
		{"power", info.Power},
		{"bmc", strings.TrimSpace(info.Protocol + " " + info.Version + " at " + info.Address)},
		{"vendor", cmp.Or(info.Vendor, "unknown")},
		{"model", cmp.Or(info.Model, "unknown")},
		{"serial", cmp.Or(info.Serial, "unknown")},
		{"uuid", cmp.Or(info.UUID, "unknown")},
		{"bmc firmware", cmp.Or(info.Firmware, "unknown")},
	}

	if item.Hardware == nil {
		return facts
	}

	for _, p := range item.Hardware.Parts {
		facts = append(facts, [2]string{"part " + p.Name, words(p.Vendor, p.Model, labelled("part number", p.PartNumber), labelled("serial", p.Serial), labelled("asset tag", p.AssetTag))})
	}

	for _, f := range item.Hardware.Firmware {
		facts = append(facts, [2]string{"firmware " + f.Name, f.Version})
	}

	for _, i := range item.Hardware.Interfaces {
		facts = append(facts, [2]string{words(i.Owner, "interface", i.Name), words(i.MAC, i.Address)})
	}

	return facts
}

func words(parts ...string) string {
	return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
}

func labelled(label, text string) string {
	if text == "" {
		return ""
	}

	return label + " " + text
}
