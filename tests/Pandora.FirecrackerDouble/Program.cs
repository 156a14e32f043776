using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Pandora.FirecrackerDouble;

// A double of Firecracker for the driver's tests: the same command line, socket, calls and refusals, and no guest. It keeps what it was told in the file 'calls' of its directory,
// and misbehaves as the file 'misbehave' there asks: 'die', 'hang', 'refuse' or 'garble' and a call, such as 'die PUT /drives/drive0'; 'no-socket'; 'busy-kvm'; 'exit' once started.
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

var builder = WebApplication.CreateSlimBuilder();
builder.Logging.ClearProviders();
builder.WebHost.ConfigureKestrel(k => k.ListenUnixSocket(socket));
var app = builder.Build();
var state = new Machine(id, misbehaviour);
app.Run(state.AnswerAsync);
await app.RunAsync();
return 0;

/// <summary>The state that decides what is allowed when.</summary>
internal sealed class Machine(string id, string misbehaviour)
{
    private readonly Lock _lock = new();
    private string? _log;
    private bool _hasKernel;
    private bool _isStarted;

    public async Task AnswerAsync(HttpContext context)
    {
        var call = $"{context.Request.Method} {context.Request.Path}";
        var body = await new StreamReader(context.Request.Body).ReadToEndAsync();
        await File.AppendAllTextAsync("calls", $"{call} {body}\n");
        switch (misbehaviour.Split(' ', 2))
        {
            case ["die", var when] when when == call:
                Console.Error.WriteLine("the double dies as it was told");
                Environment.Exit(148);
                return;
            case ["hang", var when] when when == call:
                await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, context.RequestAborted);
                return;
            case ["garble", var when] when when == call:
                await context.Response.WriteAsync("{garbage");
                return;
        }

        var fault = misbehaviour == $"refuse {call}" ? "refused as it was told" : Handle(context, body);
        if (fault is not null)
        {
            context.Response.StatusCode = 400;
            await context.Response.WriteAsync(JsonSerializer.Serialize(new Dictionary<string, string> { ["fault_message"] = fault }));
        }
        else if (context.Request.Method == "GET")
        {
            await context.Response.WriteAsync($$"""{"id":"{{id}}","state":"{{(_isStarted ? "Running" : "Not started")}}","vmm_version":"1.16.1","app_name":"Firecracker"}""");
        }
        else
        {
            context.Response.StatusCode = 204;
        }
    }

    // What is wrong with a call, or null.
    private string? Handle(HttpContext context, string body)
    {
        var parts = context.Request.Path.Value!.Split('/', StringSplitOptions.RemoveEmptyEntries);
        lock (_lock)
        {
            if (context.Request.Method == "GET")
            {
                return parts.Length == 0 ? null : $"Invalid request method and/or path: GET {parts[0]}.";
            }

            if (context.Request.Method != "PUT" || context.Request.ContentLength is null)
            {
                return $"Invalid request method and/or path: {context.Request.Method} {string.Join('/', parts)}.";
            }

            if (_isStarted && parts is not ["actions"])
            {
                return "The requested operation is not supported after starting the microVM.";
            }

            return parts switch
            {
                ["logger"] => With(body, BodyJson.Default.Logger, l => l.Fault ?? Log(l)),
                ["metrics"] => With(body, BodyJson.Default.Metrics, m => m.Fault),
                ["machine-config"] => With(body, BodyJson.Default.MachineConfig, m => m.Fault),
                ["boot-source"] => With(body, BodyJson.Default.BootSource, b => b.Fault ?? Kernel()),
                ["drives", var drive] => With(body, BodyJson.Default.Drive, d => d.DriveId != drive ? "The id from the path does not match the id from the body!" : d.Fault),
                ["network-interfaces", var iface] => With(body, BodyJson.Default.Network, n => n.IfaceId != iface ? "The id from the path does not match the id from the body!" : n.Fault),
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
        _log = logger.LogPath;
        return null;
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
            return _isStarted ? "The requested operation is not supported after starting the microVM." : "Cannot start microvm without kernel configuration.";
        }

        if (misbehaviour == "busy-kvm")
        {
            return "Kvm error: Error creating KVM object: Device or resource busy (os error 16) Make sure the user launching the firecracker process is configured on the /dev/kvm file's ACL.";
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
