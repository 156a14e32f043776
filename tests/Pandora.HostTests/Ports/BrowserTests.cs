using System.Net.Http.Json;
using System.Text.Json;
using System.Text.RegularExpressions;
using Pandora.Client;
using Pandora.HostTests.World;

namespace Pandora.HostTests.Ports;

/// <summary>
/// Previews in the distribution's Chromium: a page of one sandbox attacks the API and another sandbox's preview, which the same viewer has
/// opened before.
/// </summary>
public sealed partial class BrowserTests(BrowserFixture fixture) : IClassFixture<BrowserFixture>, IAsyncLifetime
{
    // It logs each request, and answers with a page or with what the test has put there.
    private const string Web = """
        import http.server, os, threading
        done = threading.Event()
        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                with open("/srv/log", "a") as log:
                    cookie, key = self.headers.get("cookie"), self.headers.get("x-api-key")
                    log.write("%s %s cookie=%s key=%s\n" % (self.command, self.path, cookie, key))
                if self.path == "/hold":
                    done.wait(60)
                elif self.path == "/done":
                    done.set()
                path = "/srv/www" + (self.path.split("?")[0] if self.path.split("?")[0] != "/" else "/index.html")
                found = os.path.exists(path)
                self.send_response(200 if found else 404)
                self.send_header("content-type", "text/html")
                self.send_header("set-cookie", "session=of-the-app; Path=/; Domain=localhost; Max-Age=3600")
                self.end_headers()
                if found:
                    self.wfile.write(open(path, "rb").read())
            do_GET = do_POST = do_OPTIONS = answer
            def log_message(self, *a):
                pass
        http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Handler).serve_forever()
        """;

    // Each attempt writes what it got. "refused" is what the test wants.
    private const string Attack = """
        <!doctype html><title>hostile</title><pre id=out></pre><img src="/hold"><script>
        const api = "http://localhost:8000", victim = "VICTIM", results = {};
        const attempt = async (name, act) => { try { results[name] = await act(); } catch (e) { results[name] = "refused"; } };
        const read = async (url, options) => {
            const r = await fetch(url, options); return r.status + " " + (await r.text()).slice(0, 60); };
        const opens = url => new Promise(done => {
            const s = new WebSocket(url); s.onopen = () => done("open"); s.onerror = () => done("refused"); });
        const loads = (kind, url) => new Promise(done => {
            const e = document.createElement(kind); e.onload = () => done("loaded"); e.onerror = () => done("refused");
            e.src = url; document.body.append(e); });
        (async () => {
            await attempt("own", () => read("/index.html").then(t => t.slice(0, 3)));
            await attempt("api-list", () => read(api + "/sandboxes", { credentials: "include" }));
            await attempt("api-by-address", () => read("http://127.0.0.1:8000/sandboxes", { credentials: "include" }));
            await attempt("api-create", () => read(api + "/sandboxes", { method: "POST", credentials: "include" }));
            await attempt("api-through-own-host", () => read("/sandboxes").then(t => t.slice(0, 3)));
            await attempt("api-socket", () => opens("ws://localhost:8000/sandboxes/VICTIM_ID/ports/3000/connect"));
            await attempt("victim-read", () => read(victim + "/", { credentials: "include" }));
            await attempt("victim-write", () => fetch(
                victim + "/act-cors", { method: "POST", credentials: "include", body: "x" }).then(() => "sent"));
            await attempt("victim-blind-write", () => fetch(
                victim + "/act-blind", { method: "POST", mode: "no-cors", credentials: "include" }).then(r => r.type));
            await attempt("victim-image", () => loads("img", victim + "/act-image"));
            await attempt("victim-script", () => loads("script", victim + "/act-script"));
            await attempt("victim-frame", () => new Promise(done => {
                const f = document.createElement("iframe");
                f.onload = () => { try { done(f.contentDocument.body.innerText); } catch (e) { done("refused"); } };
                f.src = victim + "/act-frame"; document.body.append(f); setTimeout(() => done("refused"), 3000); }));
            await attempt("victim-socket", () => opens(victim.replace("http", "ws") + "/act-socket"));
            document.cookie = "pandora_preview=tossed; Domain=localhost; Path=/";
            document.cookie = "session=tossed; Domain=localhost; Path=/";
            results.cookies = document.cookie;
            document.getElementById("out").textContent = "RESULTS" + JSON.stringify(results) + "END";
            await fetch("/done");
        })();
        </script>
        """;

    private readonly HostShell _shell = new(fixture.World.Host);
    private Sandbox _victim = null!, _hostile = null!;

    public async ValueTask InitializeAsync()
    {
        Assert.SkipUnless(HostShell.Has("chromium"), "Chromium could not be installed from the distribution");
        _victim = await StartAsync("<title>victim</title><p>the victim's secret</p>");
        _hostile = await StartAsync(
            Attack.Replace("VICTIM_ID", _victim.Id, StringComparison.Ordinal).Replace("VICTIM", Origin(_victim), StringComparison.Ordinal));
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var sandbox in new[] { _victim, _hostile }.OfType<Sandbox>())
        {
            await sandbox.DisposeAsync();
        }

        _shell.Dispose();
    }

    [Fact]
    public async Task A_hostile_page_reaches_neither_the_API_nor_another_preview_with_its_viewers_credentials()
    {
        // The controls: without a link the preview is closed; the link opens it; and then the cookie does.
        Assert.DoesNotContain("the victim's secret", await BrowseAsync(Origin(_victim) + "/"));
        Assert.Contains("the victim's secret", await BrowseAsync(await LinkAsync(_victim)));
        Assert.Contains("the victim's secret", await BrowseAsync(Origin(_victim) + "/"));
        var before = await LogAsync(_victim);
        var page = await BrowseAsync(await LinkAsync(_hostile));
        var match = ResultsPattern().Match(page);
        Assert.True(match.Success, page);
        var results = JsonSerializer.Deserialize<Dictionary<string, string>>(System.Net.WebUtility.HtmlDecode(match.Groups[1].Value))!;
        TestContext.Current.TestOutputHelper!.WriteLine(string.Join('\n', results.Select(r => $"{r.Key}: {r.Value}")));
        // The page works, and has its own server and cookies.
        Assert.Equal(("200", "404"), (results["own"], results["api-through-own-host"]));
        Assert.Equal("session=of-the-app", results["cookies"]);
        foreach (var attempt in new[]
        {
            "api-list", "api-by-address", "api-create", "api-socket", "victim-read", "victim-write", "victim-image", "victim-script",
            "victim-frame", "victim-socket",
        })
        {
            Assert.Equal((attempt, "refused"), (attempt, results[attempt]));
        }

        // The browser tells nothing of the answer to a blind request: what counts is that it did not arrive.
        Assert.Equal("opaque", results["victim-blind-write"]);
        Assert.Equal(before, await LogAsync(_victim));
        Assert.Equal(2, (await fixture.Server.Http.GetFromJsonAsync<JsonElement>("/sandboxes")).GetArrayLength());
        // Neither server has seen a credential of Pandora's, nor cookies of the other.
        Assert.DoesNotContain("pandora_preview", before + await LogAsync(_hostile));
        Assert.DoesNotContain("tossed", await LogAsync(_victim));
    }

    [Fact]
    public async Task A_preview_opens_by_its_name_and_says_when_nobody_listens()
    {
        var closed = await BrowseAsync(await LinkAsync(_victim, 4999));
        Assert.Contains("4999", closed);
        Assert.DoesNotContain("ERR_", closed);
    }

    private static string Origin(Sandbox sandbox, int port = 3000) => $"http://{port}-{sandbox.Id}.localhost:8000";

    private async Task<Sandbox> StartAsync(string index)
    {
        var sandbox = await fixture.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        await sandbox.ExecAsync("mkdir -p /srv/www && : > /srv/log && cat > /srv/www/index.html", new ExecOptions { Stdin = index });
        await sandbox.ExecAsync("cat > /srv/web.py", new ExecOptions { Stdin = Web });
        await sandbox.Processes.StartAsync("exec python3 /srv/web.py");
        await sandbox.ExecAsync("for i in $(seq 200); do ss -Hltn | grep -q :3000 && exit; sleep 0.1; done");
        return sandbox;
    }

    private async Task<string> LinkAsync(Sandbox sandbox, int port = 3000)
    {
        using var answer = await fixture.Server.Http.PostAsync(
            new Uri($"/sandboxes/{sandbox.Id}/ports/{port}/links", UriKind.Relative), content: null);
        answer.EnsureSuccessStatusCode();
        return (await answer.Content.ReadFromJsonAsync<JsonElement>()).GetProperty("url").GetString()!;
    }

    private static async Task<string> LogAsync(Sandbox sandbox) => (await sandbox.ExecAsync("cat /srv/log")).Stdout;

    // The page as it is when it is loaded: a hostile page holds that back until its attempts are over. The profile is the same each time,
    // and with it the cookies.
    private async Task<string> BrowseAsync(string url) => (await _shell.RunAsync(
        $"chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-background-networking "
        + $"--no-proxy-server --user-data-dir=profile --dump-dom '{url}'")).Output;

    [GeneratedRegex("<pre id=\"out\">RESULTS(.*?)END</pre>", RegexOptions.Singleline)]
    private static partial Regex ResultsPattern();
}

/// <summary>A server that needs a key.</summary>
public sealed class BrowserFixture : ServerFixture
{
    private const string Key = "a-key-of-the-viewer-0123456789";

    internal override Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "2", ["PANDORA_API_KEYS"] = Key };
}
