# bars.awk: an SVG of horizontal bars on one logarithmic scale. Lines with tabs between the fields:
#   title TEXT
#   group TEXT
#   bar NAME VALUE LEAST MOST UNIT
BEGIN { FS = "\t" }
$1 == "title" { title = $2 }
$1 == "group" { kind[++n] = "group"; name[n] = $2 }
$1 == "bar" {
	kind[++n] = "bar"
	name[n] = $2; value[n] = $3; least[n] = $4; most[n] = $5; unit[n] = $6
	if (!low || $4 < low) low = $4
	if ($5 > high) high = $5
}

function escape(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); return s }
function log10(x) { return log(x) / log(10) }
function x(v) { return sprintf("%.1f", left + (log10(v > floor10 ? v : floor10) - log10(floor10)) * decade) }
function number(v) { return sprintf(v < 9.95 ? "%.1f" : "%.0f", v) }
function text(at, y, anchor, style, s) {
	printf "<text x=\"%s\" y=\"%s\" text-anchor=\"%s\" %s>%s</text>\n", at, y, anchor, style, escape(s)
}

END {
	left = 170; width = 560; row = 26
	if (!high) { low = 1; high = 10 }
	floor10 = 1
	while (floor10 > low) floor10 /= 10
	while (floor10 * 10 <= low) floor10 *= 10
	top10 = floor10
	while (top10 < high) top10 *= 10
	decade = width / log10(top10 / floor10)
	height = 70 + n * row
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 %d\" font-family=\"sans-serif\" font-size=\"13\">\n", height
	printf "<title>%s</title>\n<rect width=\"900\" height=\"%d\" fill=\"#ffffff\"/>\n", escape(title), height
	text(20, 24, "start", "fill=\"#222222\" font-weight=\"bold\"", title)
	for (v = floor10; v <= top10 * 1.001; v *= 10) {
		printf "<path d=\"M%s 38 V%d\" stroke=\"#dddddd\"/>\n", x(v), height - 28
		text(x(v), height - 12, "middle", "fill=\"#666666\"", v >= 1 ? sprintf("%d", v) : v)
	}
	y = 40
	for (i = 1; i <= n; i++) {
		y += row
		if (kind[i] == "group") {
			text(20, y - 4, "start", "fill=\"#222222\" font-weight=\"bold\"", name[i])
			continue
		}
		text(left - 10, y - 4, "end", "fill=\"#222222\"", name[i])
		printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"16\" fill=\"%s\"/>\n", left, y - 17, x(value[i]) - left,
			name[i] == "molt" ? "#2f7d4f" : "#8a93a3"
		# From the least to the most.
		printf "<path d=\"M%s %d H%s M%s %d v8 M%s %d v8\" stroke=\"#222222\" fill=\"none\"/>\n", x(least[i]), y - 9, x(most[i]),
			x(least[i]), y - 13, x(most[i]), y - 13
		text(x(most[i]) + 8, y - 4, "start", "fill=\"#222222\"", number(value[i]) " " unit[i])
	}
	print "</svg>"
}
