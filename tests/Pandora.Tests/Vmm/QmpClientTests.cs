using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using Pandora.Vmm;
using Pandora.Vmm.Qemu;

namespace Pandora.Tests.Vmm;

public sealed class QmpClientTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());

    public void Dispose() => File.Delete(_path);

    [Fact]
    public async Task Answers_reach_their_commands_and_events_are_delivered()
    {
        var events = new List<string>();
        await using var server = new Server(
            _path,
            line =>
            {
                var command = JsonNode.Parse(line)!;
                var id = command["id"]!.ToJsonString();
                return command["execute"]!.GetValue<string>() switch
                {
                    "query-status" =>
                        $$$"""
                        {"event": "STOP", "data": {}}
                        {"return": {"status": "running"}, "id": {{{id}}}}
                        """,
                    "bad" => $$"""{"error": {"class": "GenericError", "desc": "no such thing"}, "id": {{id}} }""",
                    _ => $$"""{"return": {}, "id": {{id}} }""",
                };
            });
        await using var qmp = await QmpClient.ConnectAsync(_path, (name, _) => events.Add(name), TimeProvider.System, default);
        Assert.Equal("running", (await qmp.ExecuteAsync("query-status"))!["status"]!.GetValue<string>());
        Assert.Equal(["STOP"], events);
        Assert.Contains("no such thing", (await Assert.ThrowsAsync<VmmException>(() => qmp.ExecuteAsync("bad"))).Message);
    }

    [Theory]
    [InlineData("hello")]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("")]
    public async Task A_server_of_another_protocol_is_refused(string greeting)
    {
        await using var server = new Server(_path, _ => "", greeting);
        await Assert
            .ThrowsAnyAsync<Exception>(() => QmpClient.ConnectAsync(_path, (_, _) => { }, TimeProvider.System, default))
            .WaitAsync(TimeSpan.FromMinutes(1));
    }

    [Fact]
    public async Task A_connection_that_ends_fails_the_waiting_commands()
    {
        await using var server = new Server(
            _path,
            line =>
                line.Contains("qmp_capabilities", StringComparison.Ordinal)
                    ? $$"""{"return": {}, "id": {{JsonNode.Parse(line)!["id"]!.ToJsonString()}} }"""
                    : "close");
        await using var qmp = await QmpClient.ConnectAsync(_path, (_, _) => { }, TimeProvider.System, default);
        await Assert.ThrowsAsync<VmmException>(() => qmp.ExecuteAsync("quit").WaitAsync(TimeSpan.FromMinutes(1)));
        await Assert.ThrowsAsync<VmmException>(() => qmp.ExecuteAsync("again").WaitAsync(TimeSpan.FromMinutes(1)));
    }

    private sealed class Server : IAsyncDisposable
    {
        private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        private readonly Task _running;

        public Server(string path, Func<string, string> answer, string greeting = """{"QMP": {"version": {}, "capabilities": []}}""")
        {
            _listener.Bind(new UnixDomainSocketEndPoint(path));
            _listener.Listen();
            _running = Task.Run(async () =>
            {
                using var socket = await _listener.AcceptAsync();
                await using var stream = new NetworkStream(socket);
                await stream.WriteAsync(Encoding.UTF8.GetBytes(greeting + "\n"));
                using var reader = new StreamReader(stream);
                // QEMU reads a stream of JSON values. Each value from this client ends with its closing brace.
                var text = new StringBuilder();
                var buffer = new char[1024];
                for (int count; (count = await reader.ReadAsync(buffer)) > 0;)
                {
                    text.Append(buffer, 0, count);
                    var reply = answer(text.ToString());
                    text.Clear();
                    if (reply == "close")
                    {
                        return;
                    }

                    await stream.WriteAsync(Encoding.UTF8.GetBytes(reply + "\n"));
                }
            });
        }

        public async ValueTask DisposeAsync()
        {
            _listener.Dispose();
            await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }
}
