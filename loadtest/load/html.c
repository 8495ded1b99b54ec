/*
 * The report as a page: one file, its charts as SVG in it, no script, nothing asked of another
 * host, light or dark as the reader's system is.
 *
 * Charts: the percentiles of each latency, on a horizontal axis that gives every nine the same room
 * (90 %, 99 %, 99.9 %, …) and a vertical one of powers of ten; the operations of each second, and
 * their p99.
 */
#include "report_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The drawing's own units: it is stretched to the room that there is, lines and text are not. */
enum { SIDE = 1000, SERIES = 6 };

/* A part of the page between two values, on a linear axis or one of powers of ten. */
struct axis {
    double low, high;
    bool log;
};

static double place(const struct axis *axis, double value)
{
    if (axis->log)
        return (log10(value) - log10(axis->low)) / (log10(axis->high) - log10(axis->low));
    return (value - axis->low) / (axis->high - axis->low);
}

/* ---- text */

static void put_text(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '&':
            fputs("&amp;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        default:
            fputc(*text, file);
        }
    }
}

/* 1234567.8 as "1 234 568", 12.345 as "12.3". */
static const char *spaced(double value, char *out)
{
    char digits[40];
    size_t n = 0;

    if (fabs(value) < 1000 || fabs(value) >= 1e15) {
        sprintf(out, value == floor(value) ? "%.0f" : fabs(value) < 10 ? "%.2f" : "%.1f", value);
        return out;
    }
    size_t size = (size_t)sprintf(digits, "%.0f", value);
    for (size_t i = 0; i < size; i++) {
        if (i != 0 && (size - i) % 3 == 0 && digits[i - 1] != '-')
            n += (size_t)sprintf(out + n, "&#8239;"); /* narrow, and no line ends there */
        out[n++] = digits[i];
    }
    out[n] = '\0';
    return out;
}

/* A time in the unit that fits it. */
static const char *time_text(double us, char *out)
{
    if (us < 1000)
        sprintf(out, "%.3g&#8239;µs", us);
    else if (us < 1e6)
        sprintf(out, "%.3g&#8239;ms", us / 1e3);
    else
        sprintf(out, "%.3g&#8239;s", us / 1e6);
    return out;
}

static void put_style(FILE *file)
{
    fputs("<style>\n"
          ":root{color-scheme:light dark;--ground:#fbfbf9;--ink:#1d2126;--soft:#666f7a;"
          "--line:#dcdfe3;--card:#fff;--bad:#b3261e;--bad-ground:#fdeceb;--good:#1a7046;"
          "--s0:#1f6feb;--s1:#c2570c;--s2:#18794e;--s3:#8e4ec6;--s4:#b5179e;--s5:#0e7490}\n"
          "@media(prefers-color-scheme:dark){:root{--ground:#14171a;--ink:#e7e9ec;--soft:#9aa4af;"
          "--line:#333a42;--card:#1b1f24;--bad:#ff8f85;--bad-ground:#3a1b1a;--good:#6fcf97;"
          "--s0:#6cb0ff;--s1:#f5a05b;--s2:#5fd39a;--s3:#c9a2f5;--s4:#f48bdc;--s5:#5fc9dd}}\n"
          "*{box-sizing:border-box}body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:76rem;"
          "background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\n"
          "h1{font-size:1.6rem;line-height:1.2;margin:0 0 .25rem}h2{font-size:1.05rem;"
          "margin:0 0 .5rem}p{margin:.25rem 0 1rem}.soft{color:var(--soft)}\n"
          ".card{background:var(--card);border:1px solid var(--line);border-radius:10px;"
          "padding:1rem;margin:0 0 1rem;min-width:0}\n"
          ".bad{border-color:var(--bad);background:var(--bad-ground)}.bad h2{color:var(--bad)}"
          ".good h2{color:var(--good)}\n"
          ".pair{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,"
          "30rem),1fr))}.pair .card{margin:0}.pair{margin-bottom:1rem}\n"
          ".big{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));"
          "margin:0 0 1rem}.big div{background:var(--card);border:1px solid var(--line);"
          "border-radius:10px;padding:.75rem 1rem}.big b{display:block;font-size:1.5rem;"
          "line-height:1.25;font-variant-numeric:tabular-nums}.big span{color:var(--soft);"
          "font-size:.85rem}\n"
          ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;"
          "font-variant-numeric:tabular-nums}th,td{text-align:right;padding:.3rem .75rem .3rem 0;"
          "border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}"
          "th{color:var(--soft);font-weight:500}th:first-child,td:first-child,.words"
          "{text-align:left}.words{white-space:normal}td:last-child,"
          "th:last-child{padding-right:0}ul{margin:0;padding-left:1.2rem}"
          "li{overflow-wrap:anywhere}\n"
          ".chart{position:relative;height:15rem;margin:.75rem .9rem 2.9rem 4.2rem}"
          ".tall{height:20rem}.chart svg{position:absolute;inset:0;width:100%;height:100%;"
          "overflow:visible}.chart span{position:absolute;color:var(--soft);font-size:.8rem;"
          "line-height:1;white-space:nowrap}.y{right:calc(100% + .6rem);transform:translateY(50%)}"
          ".x{top:calc(100% + .6rem);transform:translateX(-50%)}.under{top:calc(100% + 1.9rem);"
          "left:50%;transform:translateX(-50%)}.chart path{fill:none;"
          "vector-effect:non-scaling-stroke}.grid{stroke:var(--line);stroke-width:1}"
          ".curve{stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}"
          "small{display:block;color:var(--soft);white-space:normal;min-width:9rem}\n"
          "@media(max-width:40rem){.spare{display:none}td.words{min-width:6rem}}\n",
          file);
    for (unsigned i = 0; i < SERIES; i++)
        fprintf(file, ".s%u{stroke:var(--s%u);background:var(--s%u)}\n", i, i, i);
    fputs(".key{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;font-size:.9rem;margin:.5rem 0 0;"
          "padding:0;list-style:none}.key i{display:inline-block;width:1rem;height:.25rem;"
          "border-radius:2px;margin-right:.5rem;vertical-align:middle}\n</style>\n",
          file);
}

/* ---- axes */

static void begin_chart(FILE *file, const char *title, bool tall)
{
    fprintf(file,
            "<section class=\"card\"><h2>%s</h2>\n<div class=\"chart%s\"><svg viewBox=\"0 0 %d "
            "%d\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"%s\">\n",
            title, tall ? " tall" : "", SIDE, SIDE, title);
}

/* Behind the drawing come the words around it. */
static void end_drawing(FILE *file)
{
    fputs("</svg>\n", file);
}

static void end_chart(FILE *file, const char *under)
{
    fprintf(file, "<span class=\"under\">%s</span></div>\n", under);
}

/* One line of the grid, and what it says; both are drawn by each, at different times. */
struct mark {
    double place; /* 0 to 1 */
    bool spare;   /* not where there is little room */
    char text[48];
};

enum { MARKS_MAX = 48 };
struct marks {
    unsigned n;
    struct mark mark[MARKS_MAX];
};

static char *add_mark(struct marks *marks, double place, bool spare)
{
    if (marks->n == MARKS_MAX)
        marks->n--;
    struct mark *mark = &marks->mark[marks->n++];
    mark->place = place;
    mark->spare = spare;
    return mark->text;
}

static void put_grid(FILE *file, const struct marks *x, const struct marks *y)
{
    fputs("<path class=\"grid\" d=\"", file);
    for (unsigned i = 0; i < x->n; i++)
        fprintf(file, "M%.1f 0V%d", x->mark[i].place * SIDE, SIDE);
    for (unsigned i = 0; i < y->n; i++)
        fprintf(file, "M0 %.1fH%d", (1 - y->mark[i].place) * SIDE, SIDE);
    fputs("\"/>\n", file);
}

static void put_words(FILE *file, const struct marks *x, const struct marks *y)
{
    for (unsigned i = 0; i < x->n; i++)
        fprintf(file, "<span class=\"x%s\" style=\"left:%.2f%%\">%s</span>",
                x->mark[i].spare ? " spare" : "", x->mark[i].place * 100, x->mark[i].text);
    for (unsigned i = 0; i < y->n; i++)
        fprintf(file, "<span class=\"y\" style=\"bottom:%.2f%%\">%s</span>", y->mark[i].place * 100,
                y->mark[i].text);
    fputc('\n', file);
}

static void put_point(FILE *file, bool first, const struct axis *x, double at, const struct axis *y,
                      double value)
{
    fprintf(file, "%s%.1f %.1f", first ? "M" : "L", place(x, at) * SIDE,
            (1 - place(y, value)) * SIDE);
}

/* Levels of time: each power of ten, and where there are few of them 2 and 5 times those. */
static void time_marks(struct marks *marks, const struct axis *axis)
{
    bool few = axis->high / axis->low < 150;

    for (double ten = axis->low; ten <= axis->high * 1.001; ten *= 10) {
        time_text(ten, add_mark(marks, place(axis, ten), false));
        for (unsigned times = 2; few && times <= 5; times += 3) {
            if (ten * times < axis->high)
                time_text(ten * times, add_mark(marks, place(axis, ten * times), false));
        }
    }
}

/* A step of 1, 2 or 5 times a power of ten, so that there are 4 to 10 up to `high`. */
static double step_for(double high)
{
    double ten = pow(10, floor(log10(high / 4)));
    double times = high / 4 / ten;

    return ten * (times >= 5 ? 5 : times >= 2 ? 2 : 1);
}

/* Whole powers of ten around the values. */
static struct axis time_axis(double low_us, double high_us)
{
    struct axis axis = {.log = true};

    if (low_us < .1)
        low_us = .1;
    if (high_us < low_us)
        high_us = low_us;
    axis.low = pow(10, floor(log10(low_us)));
    axis.high = pow(10, ceil(log10(high_us)));
    if (axis.high <= axis.low)
        axis.high = axis.low * 10;
    return axis;
}

/* ---- percentiles */

/* Each nine has the same room: 0 for all, 1 for 90 %, 2 for 99 %. */
static double nines(double share)
{
    return -log10(1 - share);
}

static double percentile_us(const struct histogram *histogram, double share)
{
    return (double)histogram_percentile(histogram, share) / 1e3;
}

/* The last share that says more than the longest alone: of n values that is 1 - 1/n. */
static double last_nines(const struct histogram *histogram)
{
    return log10((double)histogram->n);
}

static void put_percentile_curve(FILE *file, const struct histogram *histogram, unsigned series,
                                 const struct axis *x, const struct axis *y)
{
    double end = last_nines(histogram);

    fprintf(file, "<path class=\"curve s%u\" d=\"", series % SERIES);
    for (double at = 0; at < end; at += .02)
        put_point(file, at == 0, x, at, y,
                  fmax(y->low, percentile_us(histogram, 1 - pow(10, -at))));
    put_point(file, end == 0, x, end, y, fmax(y->low, (double)histogram->max_ns / 1e3));
    fputs("\"/>\n", file);
}

static void put_key(FILE *file, const struct report *report)
{
    fputs("<ul class=\"key\">", file);
    for (unsigned i = 0; i < report->latencies_n; i++) {
        if (report->latencies[i].histogram->n != 0)
            fprintf(file, "<li><i class=\"s%u\"></i>%s</li>", i % SERIES,
                    report->latencies[i].name);
    }
    fputs("</ul>\n", file);
}

/* The axes that hold all; false: there is nothing to draw. */
static bool percentile_axes(const struct report *report, struct axis *x, struct axis *y)
{
    double low = INFINITY, high = 0, far = 1;

    for (unsigned i = 0; i < report->latencies_n; i++) {
        const struct histogram *histogram = report->latencies[i].histogram;
        if (histogram->n == 0)
            continue;
        low = fmin(low, percentile_us(histogram, 0));
        high = fmax(high, (double)histogram->max_ns / 1e3);
        far = fmax(far, last_nines(histogram));
    }
    *x = (struct axis){0, far, false};
    *y = time_axis(low, high);
    return high != 0;
}

static void put_percentiles(FILE *file, const struct report *report)
{
    static const struct {
        double share;
        const char *text;
    } shares[] = {
        {0, "0"},         {.5, "50 %"},       {.9, "90 %"},         {.99, "99 %"},
        {.999, "99.9 %"}, {.9999, "99.99 %"}, {.99999, "99.999 %"}, {.999999, "99.9999 %"}};
    struct marks across = {0}, up = {0};
    struct axis x, y;

    if (!percentile_axes(report, &x, &y))
        return;
    for (unsigned i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        if (nines(shares[i].share) <= x.high)
            strcpy(add_mark(&across, place(&x, nines(shares[i].share)), i == 1 || i == 5 || i == 7),
                   shares[i].text);
    }
    time_marks(&up, &y);
    begin_chart(file, "How long it took", true);
    put_grid(file, &across, &up);
    for (unsigned i = 0; i < report->latencies_n; i++) {
        if (report->latencies[i].histogram->n != 0)
            put_percentile_curve(file, report->latencies[i].histogram, i, &x, &y);
    }
    end_drawing(file);
    put_words(file, &across, &up);
    end_chart(file, "share that took no longer");
    put_key(file, report);
    fputs("</section>\n", file);
}

/* ---- over time */

static double operations_of(const struct report_second *second)
{
    return second->operations;
}

static double p99_of(const struct report_second *second)
{
    return (double)second->p99_ns / 1e3;
}

/* The least that is above 0, and the most, of all seconds. */
static void bounds_of(const struct report *report, double (*value_of)(const struct report_second *),
                      double *low, double *high)
{
    *low = INFINITY;
    *high = 0;
    for (size_t i = 0; i < report->seconds_n; i++) {
        double value = value_of(&report->seconds[i]);
        *low = value > 0 ? fmin(*low, value) : *low;
        *high = fmax(*high, value);
    }
}

/* One value of each second. On a logarithmic axis nothing is where a second had no value. */
static void put_time_chart(FILE *file, const struct report *report, const char *title,
                           unsigned series, const struct axis *y, const struct marks *up,
                           double (*value_of)(const struct report_second *))
{
    struct axis x = {0, report->seconds[report->seconds_n - 1].at_s, false};
    double step = fmax(1, step_for(x.high));
    struct marks across = {0};
    bool first = true;

    for (double at = 0; at <= x.high * 1.001; at += step)
        sprintf(add_mark(&across, place(&x, at), across.n % 2 == 1), "%.0f&#8239;s", at);
    begin_chart(file, title, false);
    put_grid(file, &across, up);
    fprintf(file, "<path class=\"curve s%u\" d=\"", series);
    for (size_t i = 0; i < report->seconds_n; i++) {
        double value = value_of(&report->seconds[i]);
        if (y->log && value < y->low)
            continue;
        put_point(file, first, &x, report->seconds[i].at_s, y, value);
        first = false;
    }
    fputs("\"/>\n", file);
    end_drawing(file);
    put_words(file, &across, up);
    end_chart(file, "");
    fputs("</section>\n", file);
}

static void put_rate(FILE *file, const struct report *report)
{
    struct axis y = {0, 0, false};
    struct marks up = {0};
    double low;

    bounds_of(report, operations_of, &low, &y.high);
    if (y.high == 0)
        return;
    double step = step_for(y.high);
    y.high = ceil(y.high / step) * step;
    for (double at = 0; at <= y.high * 1.001; at += step)
        spaced(at, add_mark(&up, place(&y, at), false));
    put_time_chart(file, report, "Operations in each second", 0, &y, &up, operations_of);
}

static void put_p99(FILE *file, const struct report *report)
{
    struct marks up = {0};
    double low, high;

    bounds_of(report, p99_of, &low, &high);
    if (high == 0)
        return;
    struct axis y = time_axis(low, high);
    time_marks(&up, &y);
    put_time_chart(file, report, "p99 of each second", 1, &y, &up, p99_of);
}

/* A line needs two points. */
static void put_over_time(FILE *file, const struct report *report)
{
    if (report->seconds_n < 2)
        return;
    fputs("<div class=\"pair\">\n", file);
    put_rate(file, report);
    put_p99(file, report);
    fputs("</div>\n", file);
}

/* ---- words and tables */

static const struct report_figure *find_figure(const struct report *report, const char *name)
{
    for (unsigned i = 0; i < report->figures_n; i++) {
        if (strcmp(report->figures[i].name, name) == 0)
            return &report->figures[i];
    }
    return NULL;
}

/* What one looks for first. */
static void put_headline(FILE *file, const struct report *report)
{
    static const char *const names[][2] = {{"per_s", "operations a second"},
                                           {"server_cpu_us", "µs of server CPU each"},
                                           {"server_rss_mb", "MB of server memory"}};
    char text[64];

    fputs("<div class=\"big\">", file);
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct report_figure *figure = find_figure(report, names[i][0]);
        if (figure != NULL)
            fprintf(file, "<div><b>%s</b><span>%s</span></div>", spaced(figure->value, text),
                    names[i][1]);
    }
    if (report->latencies_n != 0 && report->latencies[0].histogram->n != 0) {
        const struct report_latency *first = &report->latencies[0];
        for (unsigned p = 0; p < REPORT_PERCENTILES; p += 2)
            fprintf(file, "<div><b>%s</b><span>%s of %s</span></div>",
                    time_text(percentile_us(first->histogram, report_percentiles[p].share), text),
                    report_percentiles[p].title, first->name);
    }
    fputs("</div>\n", file);
}

static void put_verdict(FILE *file, const struct report *report)
{
    if (report->problems_n != 0) {
        fprintf(file,
                "<section class=\"card bad\"><h2>%llu problem%s</h2><ul>", /* what comes first */
                (unsigned long long)report->problems_n, report->problems_n == 1 ? "" : "s");
        for (unsigned i = 0; i < report_problems_told(report); i++) {
            fputs("<li>", file);
            put_text(file, report->problems[i]);
            fputs("</li>", file);
        }
        fputs("</ul></section>\n", file);
    }
    if (report->checks_n == 0)
        return;
    fprintf(file, "<section class=\"card%s\"><h2>Checked</h2><ul>",
            report->problems_n == 0 ? " good" : "");
    for (unsigned i = 0; i < report->checks_n; i++) {
        char text[64];
        fprintf(file, "<li>%s ", spaced((double)report->checks[i].times, text));
        put_text(file, report->checks[i].what);
        fputs("</li>", file);
    }
    fputs("</ul></section>\n", file);
}

static void put_latency_table(FILE *file, const struct report *report)
{
    char text[64];

    if (report->latencies_n == 0)
        return;
    fputs("<section class=\"card\"><h2>Latencies</h2><div class=\"wide\"><table><tr><th></th>"
          "<th>n</th><th>mean</th>",
          file);
    for (unsigned p = 0; p < REPORT_PERCENTILES; p++)
        fprintf(file, "<th>%s</th>", report_percentiles[p].title);
    fputs("<th>max</th></tr>\n", file);
    for (unsigned i = 0; i < report->latencies_n; i++) {
        const struct histogram *histogram = report->latencies[i].histogram;
        fprintf(file, "<tr><td>%s<small>%s</small></td><td>%s</td>", report->latencies[i].name,
                report->latencies[i].meaning, spaced((double)histogram->n, text));
        fprintf(file, "<td>%s</td>", time_text(histogram_mean_ns(histogram) / 1e3, text));
        for (unsigned p = 0; p < REPORT_PERCENTILES; p++)
            fprintf(file, "<td>%s</td>",
                    time_text(percentile_us(histogram, report_percentiles[p].share), text));
        fprintf(file, "<td>%s</td></tr>\n", time_text((double)histogram->max_ns / 1e3, text));
    }
    fputs("</table></div></section>\n", file);
}

static void put_figures(FILE *file, const struct report *report)
{
    char text[64];

    fputs("<section class=\"card\"><h2>Figures</h2><div class=\"wide\"><table>\n", file);
    for (unsigned i = 0; i < report->figures_n; i++)
        fprintf(file, "<tr><td>%s</td><td>%s</td><td class=\"words\">%s</td></tr>\n",
                report->figures[i].name, spaced(report->figures[i].value, text),
                report->figures[i].meaning);
    fputs("</table></div></section>\n", file);
}

static void put_options(FILE *file, const struct report *report)
{
    fputs("<section class=\"card\"><h2>Options</h2><div class=\"wide\"><table>\n", file);
    for (unsigned i = 0; i < report->options_n; i++) {
        fprintf(file, "<tr><td>%s</td><td class=\"words\">", report->options[i].name);
        put_text(file, report->options[i].value);
        fputs("</td></tr>\n", file);
    }
    fputs("</table></div></section>\n", file);
}

void html_write(FILE *file, const struct report *report)
{
    fprintf(file,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
            "<title>%s, %s</title>\n",
            report->mode, report->target);
    put_style(file);
    fprintf(file, "</head><body>\n<h1>%s</h1><p class=\"soft\">against %s</p>\n", report->mode,
            report->target);
    put_headline(file, report);
    put_verdict(file, report);
    put_percentiles(file, report);
    put_over_time(file, report);
    put_latency_table(file, report);
    fputs("<div class=\"pair\">\n", file);
    put_figures(file, report);
    put_options(file, report);
    fputs("</div>\n</body></html>\n", file);
}
