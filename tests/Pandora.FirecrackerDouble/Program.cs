using System.Diagnostics.CodeAnalysis;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Pandora.FirecrackerDouble;

// A double of Firecracker for the tests of the driver. It has the same command line, sockets, calls and refusals. It runs no guest: in
// place of the agent it echoes what it receives. The script 'jailer' beside it starts it with all paths beneath the root of the jail. The
// double writes each call to the file 'calls' in its directory. The file 'misbehave' there makes it fail: 'die', 'hang', 'refuse' or
// 'garble' with a call, such as 'die PUT /drives/drive0'; 'no-socket'; 'busy-kvm'; 'exit' shortly after the start.
if (args is ["--version"])
{
    Console.WriteLine("Firecracker v1.16.1");
    return 0;
}

if (args is not ["--id", var id, "--api-sock", var socket])
{
    Console.Error.WriteLine($"Error: Argument parsing error: {string.Join(' ', args)}");
    return 152;
}

var misbehaviour = File.Exists("misbehave") ? File.ReadAllText("misbehave").Trim() : "";
if (misbehaviour == "no-socket")
{
    await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System);
}

if (Environment.GetEnvironmentVariable("PANDORA_DOUBLE_ROOT") is not null)
{
    Seccomp.AllowEverything();
}

var builder = WebApplication.CreateSlimBuilder();
builder.Logging.ClearProviders();
builder.WebHost.ConfigureKestrel(k => k.ListenUnixSocket(Root.On(socket)));
var app = builder.Build();
var state = new Machine(id, misbehaviour);
app.Run(state.AnswerAsync);
await app.RunAsync();
return 0;

/// <summary>The state of the machine, which decides which calls are allowed.</summary>
internal sealed class Machine(string id, string misbehaviour)
{
    private readonly Lock _lock = new();
    private string? _log;
    private bool _hasKernel;
    private bool _isStarted;
    private bool _isPaused;
    private bool _isConfigured;
    private long _memory = 128;
    private readonly List<string> _drives = [];
    private string? _vsock;

    private string State => (_isStarted, _isPaused) switch
    {
        (false, _) => "Not started",
        (true, true) => "Paused",
        (true, false) => "Running",
    };

    public async Task AnswerAsync(HttpContext context)
    {
        var call = $"{context.Request.Method} {context.Request.Path}";
        using var reader = new StreamReader(context.Request.Body);
        var body = await reader.ReadToEndAsync();
        await File.AppendAllTextAsync("calls", $"{call} {body}\n");
        switch (misbehaviour.Split(' ', 2))
        {
            case ["die", var when] when when == call:
                Console.Error.WriteLine("the double dies because the test asks for it");
                Environment.Exit(148);
                return;
            case ["hang", var when] when when == call:
                await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, context.RequestAborted);
                return;
            case ["garble", var when] when when == call:
                await context.Response.WriteAsync("{garbage");
                return;
        }

        var fault = misbehaviour == $"refuse {call}" ? "refused because the test asks for it" : Handle(context, body);
        if (fault is not null)
        {
            context.Response.StatusCode = 400;
            await context.Response.WriteAsync(JsonSerializer.Serialize(new Dictionary<string, string> { ["fault_message"] = fault }));
        }
        else if (context.Request.Method == "GET")
        {
            await context.Response.WriteAsync(
                $$"""{"id":"{{id}}","state":"{{State}}","vmm_version":"1.16.1","app_name":"Firecracker"}""");
        }
        else
        {
            context.Response.StatusCode = 204;
        }
    }

    // Handles a call. Returns the reason why it is refused, or null.
    private string? Handle(HttpContext context, string body)
    {
        var parts = context.Request.Path.Value!.Split('/', StringSplitOptions.RemoveEmptyEntries);
        lock (_lock)
        {
            if (context.Request.Method == "GET")
            {
                return parts.Length == 0 ? null : $"Invalid request method and/or path: GET {parts[0]}.";
            }

            if (context.Request.Method is not ("PUT" or "PATCH") || context.Request.ContentLength is null)
            {
                return $"Invalid request method and/or path: {context.Request.Method} {string.Join('/', parts)}.";
            }

            switch (context.Request.Method, parts)
            {
                case ("PATCH", ["vm"]):
                    return With(body, BodyJson.Default.Vm, Change);
                case ("PATCH", _):
                    return $"Invalid request method and/or path: PATCH {string.Join('/', parts)}.";
                case (_, ["snapshot", "create"]):
                    return With(body, BodyJson.Default.SnapshotCreate, Save);
                case (_, ["snapshot", "load"]):
                    return With(body, BodyJson.Default.SnapshotLoad, l => l.Fault ?? Load(l));
            }

            if (_isStarted && parts is not ["actions"])
            {
                return "The requested operation is not supported after starting the microVM.";
            }

            _isConfigured |= parts is not (["logger"] or ["metrics"]);
            return parts switch
            {
                ["vsock"] => With(body, BodyJson.Default.Vsock, v => v.Fault ?? Listen(v.UdsPath)),
                ["logger"] => With(body, BodyJson.Default.Logger, l => l.Fault ?? Log(l)),
                ["metrics"] => With(body, BodyJson.Default.Metrics, m => m.Fault),
                ["machine-config"] => With(body, BodyJson.Default.MachineConfig, m => m.Fault ?? Size(m)),
                ["boot-source"] => With(body, BodyJson.Default.BootSource, b => b.Fault ?? Kernel()),
                ["drives", var drive] => With(
                    body,
                    BodyJson.Default.Drive,
                    d => d.DriveId != drive ? "The id from the path does not match the id from the body!" : d.Fault ?? Add(d)),
                ["network-interfaces", var iface] => With(
                    body,
                    BodyJson.Default.Network,
                    n => n.IfaceId != iface ? "The id from the path does not match the id from the body!" : n.Fault),
                ["entropy"] => With(body, BodyJson.Default.Entropy, e => e.RateLimiter?.Fault),
                ["actions"] => With(body, BodyJson.Default.InstanceAction, Act),
                _ => $"Invalid request method and/or path: PUT {string.Join('/', parts)}.",
            };
        }
    }

    private static string? With<T>(string body, JsonTypeInfo<T> type, Func<T, string?> check)
    {
        try
        {
            return check(JsonSerializer.Deserialize(body, type)!);
        }
        catch (JsonException e)
        {
            return $"An error occurred when deserializing the json body of a request: {e.Message}";
        }
    }

    private string? Log(Logger logger)
    {
        _log = Root.On(logger.LogPath!);
        return null;
    }

    private string? Size(MachineConfig machine)
    {
        _memory = machine.MemSizeMib;
        return null;
    }

    private string? Add(Drive drive)
    {
        _drives.Add(drive.PathOnHost!);
        return null;
    }

    private string? Change(Vm vm)
    {
        if (vm.State is not ("Paused" or "Resumed"))
        {
            return $"unknown variant `{vm.State}`, expected `Paused` or `Resumed`";
        }

        if (!_isStarted)
        {
            return "The requested operation is not supported before starting the microVM.";
        }

        _isPaused = vm.State == "Paused";
        return null;
    }

    private string? Save(SnapshotCreate snapshot)
    {
        if (!_isStarted)
        {
            return "The requested operation is not supported before starting the microVM.";
        }

        if (!_isPaused)
        {
            return "Create snapshot error: Cannot save/restore microvm state: Operation not allowed: save/restore unavailable while "
                + "running";
        }

        if (snapshot.SnapshotType is not ("Full" or "Diff"))
        {
            return $"unknown variant `{snapshot.SnapshotType}`, expected `Diff` or `Full`";
        }

        File.WriteAllText(
            Root.On(snapshot.SnapshotPath),
            JsonSerializer.Serialize(new SavedState(_memory, _drives, _vsock), BodyJson.Default.SavedState));
        using var memory = File.OpenWrite(Root.On(snapshot.MemFilePath));
        memory.SetLength(_memory * 1024 * 1024);
        return null;
    }

    private string? Load(SnapshotLoad load)
    {
        if (_isConfigured || _isStarted)
        {
            return "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources.";
        }

        SavedState state;
        try
        {
            state = JsonSerializer.Deserialize(File.ReadAllText(Root.On(load.SnapshotPath)), BodyJson.Default.SavedState)!;
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            return $"Load snapshot error: Failed to restore from snapshot: Failed to get snapshot state from file: {e.Message}";
        }

        if (Restore(load, state) is { } fault)
        {
            return $"Load snapshot error: Failed to restore from snapshot: {fault}";
        }

        (_memory, _isStarted, _isPaused) = (state.MemSizeMib, true, !load.ResumeVm);
        _drives.AddRange(state.Drives);
        return null;
    }

    private string? Restore(SnapshotLoad load, SavedState state)
    {
        var memory = new FileInfo(Root.On(load.MemBackend?.BackendPath ?? load.MemFilePath!));
        if (!memory.Exists || memory.Length < state.MemSizeMib * 1024 * 1024)
        {
            return "Failed to load guest memory: Error creating guest memory from file";
        }

        if (state.Drives.FirstOrDefault(d => !Root.HasFile(d)) is { } missing)
        {
            return $"Failed to build microVM from snapshot: Unable to open the block device backing file: {missing}";
        }

        return state.Vsock is null ? null : Listen(state.Vsock);
    }

    // Source: Firecracker's docs/vsock.md. The first connection is closed, because the guest does not listen yet.
    [SuppressMessage("Reliability", "CA2000", Justification = "EchoAsync disposes the listener")]
    private string? Listen(string path)
    {
        var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            listener.Bind(new UnixDomainSocketEndPoint(Root.On(path)));
        }
        catch (SocketException e)
        {
            listener.Dispose();
            return $"Cannot create backend for vsock device: UnixBind({e.Message})";
        }

        listener.Listen();
        _vsock = path;
        _ = Task.Run(() => EchoAsync(listener));
        return null;
    }

    private async Task EchoAsync(Socket listener)
    {
        using var _ = listener;
        for (var count = 0; ; count++)
        {
            using var client = new NetworkStream(await listener.AcceptAsync(), ownsSocket: true);
            using var reader = new StreamReader(client);
            if (count == 0 || !_isStarted || _isPaused || await reader.ReadLineAsync() != "CONNECT 1000")
            {
                continue;
            }

            // The first bytes of the agent follow at once, as Firecracker allows.
            await client.WriteAsync("OK 1073741824\nhello"u8.ToArray());
            var buffer = new byte[1024];
            for (int read; (read = await client.ReadAsync(buffer)) > 0;)
            {
                await client.WriteAsync(buffer.AsMemory(0, read));
            }
        }
    }

    private string? Kernel()
    {
        _hasKernel = true;
        return null;
    }

    private string? Act(InstanceAction action)
    {
        if (action.ActionType != "InstanceStart")
        {
            return $"unknown variant `{action.ActionType}`";
        }

        if (_isStarted || !_hasKernel)
        {
            return _isStarted
                ? "The requested operation is not supported after starting the microVM."
                : "Cannot start microvm without kernel configuration.";
        }

        if (misbehaviour == "busy-kvm")
        {
            return "Kvm error: Error creating KVM object: Device or resource busy (os error 16) Make sure the user launching the "
                + "firecracker process is configured on the /dev/kvm file's ACL.";
        }

        _isStarted = true;
        Console.WriteLine("a line of the guest's console");
        if (misbehaviour == "exit")
        {
            _ = Task.Run(async () =>
            {
                await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
                await File.AppendAllTextAsync(_log!, "[WARN] vcpu stopped\nFirecracker exiting successfully. exit_code=0\n");
                Environment.Exit(0);
            });
        }

        return null;
    }
}
