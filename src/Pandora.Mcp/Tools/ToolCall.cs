using Microsoft.Extensions.DependencyInjection;
using ModelContextProtocol;
using ModelContextProtocol.Protocol;
using ModelContextProtocol.Server;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp.Tools;

/// <summary>A call of a tool.</summary>
/// <param name="request">The request.</param>
/// <param name="time">The clock.</param>
/// <param name="stop">Cancelled when the client cancels the call or goes away, and when the time for an answer is over.</param>
internal sealed class ToolCall(RequestContext<CallToolRequestParams> request, TimeProvider time, CancellationToken stop) : IAsyncDisposable
{
    private readonly long _start = time.GetTimestamp();
    private int _reports;
    private readonly Stack<IAsyncDisposable> _owned = new();
    private SandboxProcess? _process;

    /// <summary>Cancelled when the client cancels the call or goes away, and when the time for an answer is over.</summary>
    public CancellationToken Stop => stop;

    /// <summary>The clock.</summary>
    public TimeProvider Time => time;

    /// <summary>Time since the call began.</summary>
    public TimeSpan Elapsed => time.GetElapsedTime(_start);

    /// <summary>The sandboxes that the client may see.</summary>
    public ProjectSandboxes Sandboxes { get; } = request.Services!.GetRequiredService<ProjectSandboxes>();

    /// <summary>The services of the request.</summary>
    public IServiceProvider Services => request.Services!;

    /// <summary>The sandbox that was made for this call; null for none.</summary>
    public Sandbox? NewSandbox { get; private set; }

    /// <summary>Whether the client wants to know how far the call is.</summary>
    public bool WantsProgress => request.Params?.ProgressToken is not null;

    /// <summary>A service of the server.</summary>
    public T Get<T>()
        where T : notnull => Services.GetRequiredService<T>();

    /// <summary>The sandbox that the client names, or a new one.</summary>
    /// <exception cref="PandoraException">There is no such sandbox, or no new one can be had.</exception>
    public async Task<Sandbox> SandboxAsync(string? id)
    {
        if (id is not null)
        {
            return Sandboxes.Get(id);
        }

        return (await CreateSandboxAsync(new SandboxRequest())).Sandbox;
    }

    /// <summary>Makes a sandbox, which ends when the call fails.</summary>
    /// <exception cref="PandoraException">The request is invalid or above a bound, or no microVM became ready in time.</exception>
    public async Task<CreatedSandbox> CreateSandboxAsync(SandboxRequest wanted)
    {
        var created = await Get<NewSandboxes>().CreateAsync(Sandboxes, wanted, stop);
        NewSandbox = created.Sandbox;
        return created;
    }

    /// <summary>What a summary says about the sandbox.</summary>
    public string Of(Sandbox sandbox) => NewSandbox is null ? $"sandbox {sandbox.Id}" : $"new sandbox {sandbox.Id}";

    /// <summary>Tells the client how far the call is.</summary>
    /// <param name="message">What it shows.</param>
    public Task ReportAsync(string message) => request.Server.NotifyProgressAsync(
        request.Params!.ProgressToken!.Value,
        new ProgressNotificationValue { Progress = ++_reports, Message = message },
        cancellationToken: stop);

    /// <summary>Takes the process that the call has started: it is killed when the call fails.</summary>
    public SandboxProcess Keep(SandboxProcess process) => _process = Own(process);

    /// <summary>Takes what is disposed of at the end of the call, the last one first.</summary>
    public T Own<T>(T resource)
        where T : IAsyncDisposable
    {
        _owned.Push(resource);
        return resource;
    }

    /// <summary>The handle that a failed call tells its client, so that the process runs on; null for none.</summary>
    public string? ToldHandle { get; set; }

    /// <summary>
    /// Kills the process that was started for this call, or ends the sandbox that was made for it, unless the client learns the handle.
    /// </summary>
    public async Task UndoAsync()
    {
        if (ToldHandle is not null)
        {
            return;
        }

        if (NewSandbox is { } sandbox)
        {
            try
            {
                await Sandboxes.DeleteAsync(sandbox.Id, complete: false);
            }
            catch (PandoraException)
            {
                // It has ended already.
            }
        }
        else if (_process is { End: null } process)
        {
            await process.KillAsync();
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        while (_owned.TryPop(out var resource))
        {
            await resource.DisposeAsync();
        }
    }
}
