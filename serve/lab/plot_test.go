package lab_test

import (
	"encoding/csv"
	"flag"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The figures of TestWeight as they stand in performance.md, and the plot of them.
const (
	weightFigures = "../../docs/design/serve-weight.csv"
	weightPlot    = "../../docs/design/serve-weight.svg"
)

var plot = flag.Bool("plot", false, "draw docs/design/serve-weight.svg anew")

// TestWeightPlot: the plot shows the figures. With -plot it is drawn anew.
func TestWeightPlot(t *testing.T) {
	want := drawWeight(readFigures(t))

	if *plot {
		if err := os.WriteFile(weightPlot, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	got, err := os.ReadFile(weightPlot)
	if err != nil {
		t.Fatal(err)
	}

	if string(got) != want {
		t.Errorf("%s does not show %s: go test ./serve/lab -run TestWeightPlot -plot", weightPlot, weightFigures)
	}
}

// figure is one row: so many machines, resident memory in MB and its bound, and
// CPU in per cent of a core.
type figure struct{ machines, memory, bound, cpu float64 }

func readFigures(t *testing.T) []figure {
	t.Helper()

	file, err := os.Open(weightFigures)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read

	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}

	var figures []figure

	for _, row := range rows[1:] {
		var f figure

		for i, value := range []*float64{&f.machines, &f.memory, &f.bound, &f.cpu} {
			if *value, err = strconv.ParseFloat(row[i], 64); err != nil {
				t.Fatal(err)
			}
		}

		figures = append(figures, f)
	}

	return figures
}

// drawWeight draws memory and CPU over machines, both axes logarithmic: a line
// that climbs a decade in each decade is linear growth.
func drawWeight(figures []figure) string {
	memory := chart{title: "Memory (VmRSS, MB)", left: 60, from: 10, decades: 2}
	cpu := chart{title: "CPU (% of a core)", left: 400, from: 0.1, decades: 3}

	for _, f := range figures {
		memory.points = append(memory.points, [2]float64{f.machines, f.memory})
		memory.bounds = append(memory.bounds, [2]float64{f.machines, f.bound})
		cpu.points = append(cpu.points, [2]float64{f.machines, f.cpu})
	}

	return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 300" font-family="sans-serif" font-size="12">` + "\n" +
		`<rect width="680" height="300" fill="white"/>` + "\n" + memory.draw() + cpu.draw() + "</svg>\n"
}

// chart is one panel. Its x axis are machines, from 100 to 10,000.
type chart struct {
	title          string
	left           float64
	from           float64 // the least value on the y axis
	decades        int     // of the y axis
	points, bounds [][2]float64
}

const (
	chartTop, chartHeight, chartWidth = 40.0, 200.0, 240.0
	firstMachines, machineDecades     = 100, 2
)

func (c chart) x(machines float64) float64 {
	return c.left + chartWidth*math.Log10(machines/firstMachines)/machineDecades
}

func (c chart) y(value float64) float64 {
	return chartTop + chartHeight*(1-math.Log10(value/c.from)/float64(c.decades))
}

func (c chart) draw() string {
	var b strings.Builder

	fmt.Fprintf(&b, `<text x="%.0f" y="24">%s</text>`+"\n", c.left, c.title)

	for i := range c.decades + 1 {
		value := c.from * math.Pow10(i)
		fmt.Fprintf(&b, `<path d="M%.0f %.1fh%.0f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%g</text>`+"\n",
			c.left, c.y(value), chartWidth, c.left-6, c.y(value)+4, value)
	}

	for i := range machineDecades + 1 {
		machines := firstMachines * math.Pow10(i)
		fmt.Fprintf(&b, `<text x="%.1f" y="%.0f" text-anchor="middle">%g</text>`+"\n", c.x(machines), chartTop+chartHeight+18, machines)
	}

	fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" text-anchor="middle">machines</text>`+"\n", c.left+chartWidth/2, chartTop+chartHeight+38)
	b.WriteString(c.line(c.bounds, "#999", "4 4"))
	b.WriteString(c.line(c.points, "#06c", "none"))

	for _, p := range c.points {
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="#06c"/><text x="%.1f" y="%.1f">%g</text>`+"\n",
			c.x(p[0]), c.y(p[1]), c.x(p[0])+6, c.y(p[1])+14, p[1])
	}

	return b.String()
}

func (c chart) line(points [][2]float64, colour, dashes string) string {
	if len(points) == 0 {
		return ""
	}

	at := make([]string, len(points))
	for i, p := range points {
		at[i] = fmt.Sprintf("%.1f,%.1f", c.x(p[0]), c.y(p[1]))
	}

	return fmt.Sprintf(`<polyline points="%s" fill="none" stroke="%s" stroke-dasharray="%s"/>`+"\n", strings.Join(at, " "), colour, dashes)
}
