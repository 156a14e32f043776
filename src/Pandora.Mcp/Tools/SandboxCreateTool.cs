using System.ComponentModel;
using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;

namespace Pandora.Mcp.Tools;

/// <summary>Arguments of <c>sandbox_create</c>.</summary>
internal sealed record SandboxCreateArguments
{
    [Description("Name of the template; the usual one if left out.")]
    public string? Template { get; init; }

    [Description("What it may reach: internet or none; the server's usual if left out.")]
    public string? Egress { get; init; }

    [Description("Memory in MiB.")]
    public int? MemoryMib { get; init; }

    [Description("Virtual CPUs.")]
    public int? Vcpus { get; init; }

    [Description("Disk in MiB.")]
    public int? DiskMib { get; init; }

    [Description("Seconds without use after which it ends; 900, or the longest that is allowed, if left out.")]
    public double? IdleTimeout { get; init; }

    [Description("Seconds after which it ends even in use, 1 to 86400; the longest that is allowed if left out.")]
    public double? Lifetime { get; init; }
}

/// <summary>A new sandbox.</summary>
internal sealed record CreatedAnswer(
    [property: Description(Texts.InSandbox)] string Sandbox,
    string Template,
    [property: Description("internet or none.")] string Egress,
    [property: Description("Seconds without use after which it ends.")] double IdleTimeout,
    double AcquireMs,
    [property: Description("Whether it was ready, so that nothing had to be waited for.")] bool Warm,
    [property: Description("snapshot or boot.")] string? Start,
    [property: Description("When it ends even in use; missing when there is no such limit.")] DateTimeOffset? EndsAt);

/// <summary>Makes a sandbox.</summary>
internal sealed class SandboxCreateTool() : PandoraTool<SandboxCreateArguments, CreatedAnswer>(
    "sandbox_create",
    "Make a sandbox",
    "Makes a sandbox with a size, egress or lifetime of your choice. Without such wishes you need it not: other tools make one.",
    Texts.Does())
{
    private static readonly TimeSpan MaxLifetime = TimeSpan.FromHours(24);

    /// <inheritdoc/>
    protected override async Task<ToolAnswer<CreatedAnswer>> CallAsync(ToolCall call, SandboxCreateArguments arguments)
    {
        var size = arguments is { MemoryMib: null, Vcpus: null, DiskMib: null }
            ? null
            : new WantedSize(arguments.MemoryMib, arguments.Vcpus, arguments.DiskMib);
        var request = new SandboxRequest(arguments.IdleTimeout, arguments.Template, EgressOf(arguments.Egress), Size: size)
        {
            EndsAfter = LifetimeOf(arguments.Lifetime),
        };
        var created = await call.CreateSandboxAsync(request);
        var status = created.Sandbox.Status;
        var ends = status.Lifetime.EndsAt;
        return new(
            $"new sandbox {status.Id}; it ends after {status.Lifetime.Idle.TotalSeconds:0} s without use"
                + (ends is { } at ? $", and at {at.UtcDateTime:yyyy-MM-dd HH:mm:ss} UTC in any case" : ""),
            new CreatedAnswer(
                status.Id, status.Template, Label.Of(status.Egress.Default), status.Lifetime.Idle.TotalSeconds,
                Math.Round(created.Elapsed.TotalMilliseconds, 3), created.IsWarm,
                created.Start is { } start ? Label.Of(start) : null, ends));
    }

    private static Egress? EgressOf(string? egress) => egress switch
    {
        null => null,
        "internet" => Engine.Egress.Internet,
        "none" => Engine.Egress.None,
        _ => throw PandoraException.Invalid("egress", "must be internet or none"),
    };

    private static TimeSpan? LifetimeOf(double? seconds) => seconds switch
    {
        null => null,
        { } given when given >= 1 && given <= MaxLifetime.TotalSeconds => TimeSpan.FromSeconds(given),
        _ => throw PandoraException.Invalid("lifetime", $"must be between 1 and {MaxLifetime.TotalSeconds:0} seconds, and is {seconds}"),
    };
}
