using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Pandora.Agent.Protocol;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Snapshots;
using Pandora.Fakes;
using Pandora.Vmm;
using Pandora.Vmm.Firecracker;
using Pandora.Vmm.Qemu;

namespace Pandora.Tests.Fuzz;

/// <summary>
/// Damaged bytes for every parser of bytes from a client, a guest, a VMM or a file. Each test runs for three seconds, or for as long as
/// <c>./pandora test --fuzz MINUTES</c> says. A failure names the seed (<c>--seed</c>) and the bytes.
/// </summary>
public sealed partial class FuzzTests(ITestOutputHelper output) : IDisposable
{
    private static readonly TimeSpan Duration = TimeSpan.FromSeconds(
        int.TryParse(Environment.GetEnvironmentVariable("PANDORA_TEST_FUZZ_SECONDS"), out var seconds) ? seconds : 3);
    private static readonly int Seed = int.TryParse(Environment.GetEnvironmentVariable("PANDORA_TEST_SEED"), out var seed)
        ? seed
        : Random.Shared.Next();
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public Task Records_are_read_or_refused() =>
        FuzzAsync(
            [JsonSerializer.SerializeToUtf8Bytes(Record(), RecordJson.Default.MicroVmRecord)],
            bytes =>
            {
                var directory = Directory.CreateDirectory(Path.Combine(_directory, Record().Id)).FullName;
                File.WriteAllBytes(Path.Combine(directory, MicroVmRecord.FileName), bytes);
                if (MicroVmRecord.TryRead(directory, out var record, out var problem))
                {
                    Assert.Equal(Record().Id, record.Id);
                    Assert.NotNull(record.Resources);
                    Assert.NotNull(record.HostKey);
                }
                else
                {
                    Assert.NotEmpty(problem);
                }

                return Task.CompletedTask;
            });

    [Fact]
    public async Task Bodies_of_requests_never_fail_the_server()
    {
        await using var server = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 2, MaxSandboxes = 5 });
        var id = await server.CreateAsync();
        await FuzzAsync(
            [
                """{"idle_timeout": 60.5, "template": "default", "egress": "none", "metadata": {"a": "b", "c": "d"}}"""u8.ToArray(),
                """
                {"code": "echo hello", "timeout": 5, "cwd": "/root", "env": {"A": "1", "B": "two"}, "user": "nobody", "stdin": "text\n"}
                """u8.ToArray(),
            ],
            async bytes =>
            {
                foreach (var path in new[] { "/sandboxes", $"/sandboxes/{id}/exec" })
                {
                    using var content = new ByteArrayContent(bytes);
                    content.Headers.ContentType = new("application/json");
                    using var response = await server
                        .Http.PostAsync(new Uri(path, UriKind.Relative), content)
                        .WaitAsync(TimeSpan.FromMinutes(1));
                    Assert.True(
                        (int)response.StatusCode < 500 || (int)response.StatusCode is 503 or 504,
                        $"{path}: {(int)response.StatusCode} {await response.Content.ReadAsStringAsync()}");
                    if (path == "/sandboxes" && response.IsSuccessStatusCode)
                    {
                        using var created = JsonDocument.Parse(await response.Content.ReadAsStringAsync());
                        await server.SendAsync(
                            HttpMethod.Delete, $"/sandboxes/{created.RootElement.GetProperty("sandbox_id").GetString()}");
                    }
                }
            });
        Assert.Equal(1, server.Node.Sandboxes.Count);
    }

    [Fact]
    public Task Paths_and_headers_never_fail_the_server() =>
        WithServerAsync(server =>
            FuzzAsync(
                ["/sandboxes/abcdefghijklmnopqrstuvwx/exec?receipt=true&metadata=a:b|abc-key-1"u8.ToArray()],
                async bytes =>
                {
                    // Kestrel refuses a NUL in a path before the application sees the request. The server in memory cannot handle one.
                    var parts = Encoding.Latin1.GetString(bytes).Replace("\0", "", StringComparison.Ordinal).Split('|');
                    using var request = new HttpRequestMessage(
                        HttpMethod.Post,
                        new Uri("/" + Uri.EscapeDataString(parts[0]).Replace("%2F", "/", StringComparison.Ordinal), UriKind.Relative));
                    request.Headers.TryAddWithoutValidation(
                        "Idempotency-Key", string.Concat(parts[^1].Where(c => c is not ('\r' or '\n'))));
                    try
                    {
                        using var response = await server.Http.SendAsync(request).WaitAsync(TimeSpan.FromMinutes(1));
                        Assert.True(
                            (int)response.StatusCode is < 500 or 503,
                            $"{(int)response.StatusCode} {await response.Content.ReadAsStringAsync()}");
                    }
                    catch (Exception e) when (e is HttpRequestException or UriFormatException)
                    {
                        // HttpClient refuses to send the request.
                    }
                }));

    [Fact]
    public Task Output_of_QEMU_is_understood_or_ends_the_connection() => FuzzAsync(
        ["""
        {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}
        {"return": {}, "id": "1"}
        {"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}, "timestamp": {"seconds": 1, "microseconds": 2}}
        {"return": {"running": true, "status": "running"}, "id": "2"}
        {"error": {"class": "GenericError", "desc": "no"}, "id": "3"}

        """u8.ToArray()],
        async bytes =>
        {
            using var server = new FixedAnswer(Path.Combine(_directory, "qmp"), bytes);
            try
            {
                await using var qmp = await QmpClient
                    .ConnectAsync(server.Path, (_, data) => data?["reason"]?.ToString(), TimeProvider.System, default)
                    .WaitAsync(TimeSpan.FromMinutes(1));
                await qmp.ExecuteAsync("query-status").WaitAsync(TimeSpan.FromMinutes(1));
                await qmp.ExecuteAsync("quit").WaitAsync(TimeSpan.FromMinutes(1));
            }
            catch (Exception e) when (e is VmmException or IOException)
            {
                // The bytes were refused with an error of the driver.
            }
        });

    [Fact]
    public Task Answers_of_Firecracker_are_understood_or_refused() => FuzzAsync(
        [
            Encoding.UTF8.GetBytes(
                "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
                + "Content-Length: 81\r\n\r\n"
                + """{"id":"x","state":"Running","vmm_version":"1.16.1","app_name":"Firecracker","a":1}"""),
            "HTTP/1.1 400 \r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{\"fault_message\":\"it refused\"}"u8.ToArray(),
            "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"u8.ToArray(),
        ],
        async bytes =>
        {
            using var server = new FixedAnswer(Path.Combine(_directory, "api"), bytes);
            using var api = new FirecrackerApi(server.Path, TimeSpan.FromSeconds(5), TimeProvider.System);
            Func<Task>[] calls =
            [
                () => api.GetAsync("/", FirecrackerJson.Default.InstanceInfo, default),
                () => api.PutAsync("/actions", "{}"u8.ToArray(), default),
            ];
            foreach (var call in calls)
            {
                try
                {
                    await call().WaitAsync(TimeSpan.FromMinutes(1));
                }
                catch (VmmException)
                {
                    // The bytes were refused with an error of the driver.
                }
            }
        });

    [Fact]
    public async Task Bytes_from_a_guests_agent_are_understood_or_refused()
    {
        var number = 0;
        await FuzzAsync(
            [
                [
                    .. AgentProtocol.Encode(AgentMessage.Ready, 0, []),
                    .. AgentProtocol.Encode(AgentMessage.Pong, 1, "hello"u8),
                    .. AgentProtocol.Encode(AgentMessage.Clock, 2, AgentProtocol.EncodeNanoseconds(5)),
                ],
                AgentProtocol.Encode(AgentMessage.Failed, 1, "it could not"u8),
            ],
            async bytes =>
            {
                using var server = new FixedAnswer(Path.Combine(_directory, $"agent{number++ % 2}"), bytes);
                using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(server.Path));
                await using var agent = new GuestAgent(
                    new FakeMachine("x") { Agent = () => new NetworkStream(socket) }, TimeProvider.System)
                {
                    NextId = 1,
                };
                Func<Task>[] calls = [() => agent.PingAsync("hello"u8.ToArray(), default), () => agent.SetClockAsync(default)];
                foreach (var call in calls)
                {
                    try
                    {
                        await call().WaitAsync(TimeSpan.FromMinutes(1));
                    }
                    catch (VmmException)
                    {
                        // The bytes were refused with an error of the agent connection.
                    }
                }
            });
    }

    [Fact]
    public Task Bytes_from_a_server_to_an_agent_are_understood_or_refused() => FuzzAsync(
        [
            new ResumeBody(1, new byte[64], "pandora-abcdefgh", "0123456789abcdef0123456789abcdef", new byte[80], new byte[32]).Encode(),
            AgentProtocol.EncodeNanoseconds(7),
        ],
        bytes =>
        {
            try
            {
                ResumeBody.Decode(bytes);
            }
            catch (FormatException)
            {
                // The agent reports this error to the server.
            }

            return Task.CompletedTask;
        });

    [Fact]
    public Task A_snapshots_description_is_read_or_refused()
    {
        var key = new string('a', 64);
        var store = new SnapshotStore(_directory);
        var made = store.Begin("web");
        foreach (var name in new[] { Snapshot.StateName, Snapshot.MemoryName, Snapshot.DiskName })
        {
            File.WriteAllText(Path.Combine(made, name), name);
        }

        var path = store.Install(made, "web", key, DateTimeOffset.UnixEpoch, default).Directory;
        return FuzzAsync([File.ReadAllBytes(Path.Combine(path, "snapshot.json"))], bytes =>
        {
            File.WriteAllBytes(Path.Combine(path, "snapshot.json"), bytes);
            var found = store.Find("web", key, default, out var problem);
            Assert.True(found is null ? problem is { Length: > 0 } : found.Key == key && found.Files.Count >= 3);
            return Task.CompletedTask;
        });
    }

    private async Task FuzzAsync(IReadOnlyList<byte[]> valid, Func<byte[], Task> tryAsync)
    {
        var mutator = new Mutator(Seed);
        var start = Stopwatch.GetTimestamp();
        var count = 0;
        for (; Stopwatch.GetElapsedTime(start) < Duration; count++)
        {
            var bytes = mutator.Damage(mutator.Pick(valid));
            try
            {
                await tryAsync(bytes);
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {Seed}, number {count}, bytes {Convert.ToBase64String(bytes)}: {e.Message}", e);
            }
        }

        output.WriteLine($"{count} tries, seed {Seed}");
    }

    private static async Task WithServerAsync(Func<FakeServer, Task> run)
    {
        await using var server = await FakeServer.StartAsync();
        await run(server);
    }

    private static MicroVmRecord Record() =>
        new()
        {
            Id = "abcdefghijklmnopqrstuvwx",
            Instance = "tests",
            BootId = MicroVmRecord.HostBootId,
            Template = "default",
            Slot = 3,
            Address = "10.200.0.14",
            Network = "10.200.0.0/16",
            Uid = 1_342_177_283,
            HostKey = "AAAA",
            IsReady = true,
            Vmm = new VirtualMachineHandle("abcdefghijklmnopqrstuvwx", "/run/x", 123, 456, "QEMU"),
            Resources = [new HostResource(ResourceKind.Namespace, "pnd-tests-3"), HostResource.OfProcess(123, 456)],
            Claim = new ClaimRecord(60, Egress.None, new Dictionary<string, string> { ["a"] = "b" }, DateTimeOffset.UnixEpoch, "key")
            {
                RequestHash = "00",
            },
        };

    /// <summary>A UNIX socket that sends the same bytes to every client, ignores what it receives, and closes.</summary>
    private sealed class FixedAnswer : IDisposable
    {
        private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);

        public FixedAnswer(string path, byte[] bytes)
        {
            Path = path;
            File.Delete(path);
            _listener.Bind(new UnixDomainSocketEndPoint(path));
            _listener.Listen();
            _ = ServeAsync(bytes);
        }

        public string Path { get; }

        public void Dispose() => _listener.Dispose();

        private async Task ServeAsync(byte[] bytes)
        {
            try
            {
                while (true)
                {
                    using var client = await _listener.AcceptAsync();
                    await client.SendAsync(bytes);
                    client.Shutdown(SocketShutdown.Send);
                    var buffer = new byte[1024];
                    while (await client.ReceiveAsync(buffer) > 0)
                    {
                        // What the client sends is ignored.
                    }
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // The listener was closed.
            }
        }
    }
}
