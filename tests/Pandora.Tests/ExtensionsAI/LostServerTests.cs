using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Text;
using Microsoft.Extensions.AI;
using Pandora.Client;
using Pandora.Extensions.AI;
using Pandora.Fakes;
using Pandora.Server.Hosting;

namespace Pandora.Tests.ExtensionsAI;

/// <summary>What an agent reads when its server or its sandbox is gone, and how the functions find the server.</summary>
public sealed class LostServerTests : IDisposable
{
    private const string Key = "a-key-of-the-settings";
    private FaultyConnection _connection = null!;
    private HttpClient _http = null!;

    public void Dispose() => _http?.Dispose();

    [Fact]
    public async Task A_call_goes_below_the_address_with_the_key_and_asks_for_the_revision_once()
    {
        await using var world = await StartAsync();
        _connection.Requests.Clear();
        var function = world.FunctionOf("run");
        for (var i = 0; i < 3; i++)
        {
            Assert.StartsWith("exit code 0", await SayHiAsync(function), StringComparison.Ordinal);
        }

        Assert.Equal(Enumerable.Repeat<(string, string?)>(($"{FaultyConnection.Path}/mcp", Key), 4), _connection.Requests);
    }

    [Theory]
    [InlineData(401, "unauthorized: ")]
    [InlineData(403, "forbidden: ")]
    [InlineData(404, "not_understood: there is no MCP front end")]
    [InlineData(405, "not_understood: there is no MCP front end")]
    [InlineData(413, "invalid_request: the call is larger than the server takes, and nothing was done")]
    [InlineData(429, "too_many_requests: nothing was done")]
    [InlineData(502, "interrupted: the server, or a proxy before it, answered with HTTP 502")]
    [InlineData(200, "interrupted: the connection to the server broke")]
    public async Task An_answer_that_is_none_is_a_text_and_the_next_call_is_served(int status, string says)
    {
        await using var world = await StartAsync();
        var function = world.FunctionOf("run");
        // Before and after the revision is known.
        for (var i = 0; i < 2; i++)
        {
            var (body, type) = status == 200 ? ("data: {", "text/event-stream") : ("a page", "text/html");
            _connection.Fault = () => new HttpResponseMessage((HttpStatusCode)status)
            {
                Content = new StringContent(body, Encoding.UTF8, type),
            };
            var text = await SayHiAsync(function);
            Assert.StartsWith(says, text, StringComparison.Ordinal);
            Assert.DoesNotContain(Key, text, StringComparison.Ordinal);
            _connection.Fault = null;
            Assert.StartsWith("exit code 0", await SayHiAsync(function), StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(HttpRequestError.ConnectionError, "server_unreachable: no Pandora server answers, and nothing was done")]
    [InlineData(HttpRequestError.ResponseEnded, "interrupted: the connection to the server broke")]
    [InlineData(null, "timeout: no answer came in time")]
    public async Task A_connection_that_fails_is_a_text_and_the_next_call_is_served(HttpRequestError? error, string says)
    {
        await using var world = await StartAsync();
        var function = world.FunctionOf("run");
        for (var i = 0; i < 2; i++)
        {
            _connection.Fault = () => throw (error is { } e ? new HttpRequestException(e) : new TaskCanceledException());
            var text = await SayHiAsync(function);
            Assert.StartsWith(says, text, StringComparison.Ordinal);
            _connection.Fault = null;
            Assert.StartsWith("exit code 0", await SayHiAsync(function), StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_server_that_hangs_is_a_text(bool isFirst)
    {
        await using var server = await FakeServer.StartAsync(onLoopback: true);
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider();
        using var hanging = new Hanging(server.Http.BaseAddress!);
        using var http = new HttpClient(hanging) { BaseAddress = server.Http.BaseAddress };
        using var pandora = new PandoraClient(http, new PandoraClientOptions { KeepAlive = false, TimeProvider = time });
        await using var sandbox = await pandora.CreateAsync();
        var function = sandbox.AsAIFunctions()[0];
        _ = isFirst ? "" : await SayHiAsync(function);
        hanging.Hangs = true;
        var calling = SayHiAsync(function);
        await FakeNode.UntilAsync(() => hanging.Count > 0, "it hangs");
        time.Advance(TimeSpan.FromSeconds(69));
        Assert.False(calling.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(2));
        Assert.StartsWith("timeout: no answer came in time", await calling, StringComparison.Ordinal);
        hanging.Hangs = false;
        Assert.StartsWith("exit code 0", await SayHiAsync(function), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_server_that_is_gone_and_one_that_ends_during_a_call_are_texts()
    {
        await using var world = await FunctionWorld.StartAsync();
        var calling = world.TextAsync("run", new { command = "run" });
        await FakeNode.UntilAsync(() => world.Guest.Runs.Count == 1, "it runs");
        await world.StopServerAsync();
        Assert.StartsWith("interrupted: ", await calling, StringComparison.Ordinal);
        Assert.StartsWith("server_unreachable: ", await world.TextAsync("run", new { command = "echo hi" }), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_sandbox_that_has_ended_is_a_text_that_offers_no_other()
    {
        await using var world = await FunctionWorld.StartAsync();
        Assert.StartsWith("exit code 0", await world.TextAsync("run", new { command = "echo hi" }), StringComparison.Ordinal);
        await world.Sandbox.EndAsync();
        foreach (var (name, arguments) in new (string, object)[]
            {
                ("run", new { command = "echo hi" }),
                ("process_read", new { process = $"{world.Sandbox.Id}/a" }),
                ("port_link", new { port = 80 }),
            })
        {
            Assert.Equal(
                "sandbox_not_found: the sandbox has ended. Its files and processes are gone, and these functions can do nothing more. Tell "
                    + "your user: the program must make another sandbox",
                await world.TextAsync(name, arguments));
        }

        Assert.Empty(world.Server.Node.Sandboxes.List());
    }

    [Fact]
    public async Task A_wrong_key_is_a_text_that_does_not_have_it()
    {
        const string Wrong = "a-wrong-key-that-is-secret";
        await using var world = await FunctionWorld.StartAsync(new ServerOptions { ApiKeys = Key }, Key);
        using var other = new PandoraClient(world.Server.Http.BaseAddress!.AbsoluteUri, Wrong);
        var function = other.Connect(world.Sandbox.Id).AsAIFunctions()[0];
        var text = await SayHiAsync(function);
        Assert.StartsWith("unauthorized: the server does not accept the program's key", text, StringComparison.Ordinal);
        Assert.DoesNotContain(Wrong, text, StringComparison.Ordinal);
    }

    // Requests that are never answered.
    [SuppressMessage("Reliability", "CA2000", Justification = "This handler disposes of the next one.")]
    private sealed class Hanging(Uri address) : DelegatingHandler(new SocketsHttpHandler())
    {
        private int _count;

        public bool Hangs { get; set; }

        public int Count => Volatile.Read(ref _count);

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (Hangs && request.RequestUri == new Uri(address, "mcp"))
            {
                Interlocked.Increment(ref _count);
                await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellationToken);
            }

            return await base.SendAsync(request, cancellationToken);
        }
    }

    private static async Task<string> SayHiAsync(AIFunction function) =>
        Assert.IsType<string>(await function.InvokeAsync(new() { ["command"] = "echo hi" }));

    private Task<FunctionWorld> StartAsync() => FunctionWorld.StartAsync(new ServerOptions { ApiKeys = Key }, client: address =>
    {
        _connection = new FaultyConnection(address);
        _http = new HttpClient(_connection) { BaseAddress = new Uri(address, FaultyConnection.Path) };
        return new PandoraClient(_http, new PandoraClientOptions { ApiKey = Key, KeepAlive = false });
    });
}
