using System.Text.Json;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;

namespace Pandora.Tests.Api;

/// <summary>Limits in places that are not generated from the table: the engine, comments and pages.</summary>
public sealed class LimitsTests
{
    private static readonly EngineOptions Options = new();
    private static readonly string IdleTimeouts = $"{Limits.MinIdleTimeout:0} to the longest lifetime";

    private static readonly string ExecTimeouts = $"{Limits.MinExecTimeout:0} to the longest lifetime";

    public static TheoryData<string, string, string> Described => new()
    {
        { nameof(CreateSandboxRequest), "idle_timeout", $"{IdleTimeouts} of a sandbox, unless" },
        { nameof(CreateSandboxRequest), "idle_timeout", $"the server's, {Limits.DefaultIdleTimeout:0}." },
        { nameof(CreateSandboxRequest), "metadata", $"at most {Limits.Size(Limits.MaxMetadataBytes)} in all" },
        { nameof(CreateSandboxRequest), "egress", string.Join(" or ", Label.All<Egress>().Select(e => $"`{e}`")) },
        { nameof(ExecRequest), "code", $"at most {Limits.Size(Limits.MaxCodeBytes)} of" },
        { nameof(ExecRequest), "timeout", $": {ExecTimeouts} of a sandbox." },
        { nameof(ExecRequest), "timeout", $"means: {Limits.DefaultExecTimeout:0}." },
        { nameof(ExecRequest), "env", $"at most {Limits.Size(Limits.MaxEnvBytes)} in all" },
        { nameof(ExecRequest), "stdin", $"at most {Limits.Size(Limits.MaxStdinBytes)} of" },
        { nameof(StartProcessRequest), "code", $"at most {Limits.Size(Limits.MaxCodeBytes)} of" },
        { nameof(StartProcessRequest), "timeout", $": {ExecTimeouts} of a sandbox." },
        { nameof(StartProcessRequest), "env", $"at most {Limits.Size(Limits.MaxEnvBytes)} in all" },
        { nameof(StartProcessRequest), "tag", $"at most {Limits.MaxTagLength} characters" },
        { nameof(ExecResponse), "stdout", $"at most {Limits.Size(Limits.MaxOutputBytes)};" },
    };

    [Theory]
    [MemberData(nameof(Described))]
    public void The_description_of_the_api_has_the_limits(string schema, string property, string words)
    {
        using var document = JsonDocument.Parse(Repository.Read("docs/openapi.json"));
        Assert.Contains(words,
            document.RootElement.GetProperty("components").GetProperty("schemas").GetProperty(schema).GetProperty("properties")
            .GetProperty(property).GetProperty("description").GetString());
    }

    [Fact]
    public void Pages_have_the_limits()
    {
        var http = Repository.Read("docs/http.md");
        Assert.Contains($"`idle_timeout` (at least {Limits.MinIdleTimeout:0} s, at most the longest lifetime", http);
        Assert.Contains($"`timeout` (at least {Limits.MinExecTimeout:0} s, at most the longest lifetime", http);
        Assert.Contains($"The default is {Limits.DefaultIdleTimeout:0} s.", http);
        Assert.Contains($"The default is {Limits.DefaultExecTimeout:0} s.", http);
        Assert.Contains($"At most {Limits.Size(Limits.MaxOutputBytes)} of each output", http);
        Assert.Contains(
            $"Bodies over {Limits.Size(Limits.MaxBodyBytes)} are refused, outputs kept to {Limits.Size(Limits.MaxOutputBytes)} each",
            Repository.Read("docs/operations.md"));
    }

    [Fact]
    public void The_engine_has_the_same_limits()
    {
        Assert.Equal(
            (Limits.MaxCodeBytes, Limits.MaxStdinBytes, Limits.MaxEnvBytes, Limits.MaxMetadataBytes),
            (RequestLimits.MaxCodeBytes, RequestLimits.MaxStdinBytes, RequestLimits.MaxEnvBytes, RequestLimits.MaxMetadataBytes));
        Assert.Equal(
            (Limits.MaxCwdLength, Limits.MaxIdempotencyKeyLength), (RequestLimits.MaxCwdBytes, RequestLimits.MaxIdempotencyKeyLength));
        Assert.Equal(
            (Limits.MinIdleTimeout, Limits.MinExecTimeout, Limits.MaxTagLength, Limits.MaxArguments),
            (RequestLimits.MinIdleTimeout, RequestLimits.MinTimeout, RequestLimits.MaxTagLength, RequestLimits.MaxArguments));
        Assert.Equal(
            (Limits.MinMemoryMib, Limits.MaxMemoryMib, Limits.MaxVcpus, Limits.MinDiskMib, Limits.MaxDiskMib),
            (MicroVmSize.MinMemoryMib, MicroVmSize.MaxMemoryMib, MicroVmSize.MaxVcpus, MicroVmSize.MinDiskMib, MicroVmSize.MaxDiskMib));
        Assert.Equal(Limits.DefaultIdleTimeout, Options.IdleTimeout);
        Assert.Equal(Limits.MaxOutputBytes, new GuestCommand { Code = "true" }.OutputLimit);
    }

    [Fact]
    public void Timeouts_may_be_as_long_as_a_sandbox_may_live()
    {
        Assert.Equal((Options.MaxLifetime, Options.MaxLifetime), (Options.LongestTimeout, Options.LongestIdleTimeout));
        var endless = new EngineOptions { MaxLifetime = 0 };
        Assert.Equal((Limits.MaxTimeout, Limits.MaxTimeout), (endless.LongestTimeout, endless.LongestIdleTimeout));
        Assert.Equal(600, new EngineOptions { MaxIdleTimeout = 600 }.LongestIdleTimeout);
        // The clock's timers take 49 days.
        var year = new EngineOptions { MaxLifetime = 31_536_000 };
        Assert.Equal((48.0 * 24 * 3600, 31_536_000.0), (year.LongestTimeout, year.LongestIdleTimeout));
        using var longest = new CancellationTokenSource(TimeSpan.FromSeconds(year.LongestTimeout), TimeProvider.System);
        foreach (var options in new[] { Options, endless, year })
        {
            var most = TimeSpan.FromSeconds(options.LongestTimeout);
            RequestLimits.Check(new GuestCommand { Code = "true", Timeout = most }, options);
            RequestLimits.Check(new ProcessSpec { Code = "true", TimeLimit = most }, options);
            foreach (var wrong in new[] { most + TimeSpan.FromSeconds(0.1), TimeSpan.FromSeconds(0.9), TimeSpan.Zero })
            {
                Assert.Equal("timeout", Assert.Throws<PandoraException>(
                    () => RequestLimits.Check(new GuestCommand { Code = "true", Timeout = wrong }, options)).Field);
                Assert.Equal("timeout", Assert.Throws<PandoraException>(
                    () => RequestLimits.Check(new ProcessSpec { Code = "true", TimeLimit = wrong }, options)).Field);
            }
        }
    }

    [Fact]
    public void Names_of_users_and_templates_have_the_same_pattern()
    {
        RequestLimits.Check(new GuestCommand { Code = "true", User = new string('u', Limits.MaxUserLength) }, Options);
        Assert.Throws<PandoraException>(
            () => RequestLimits.Check(new GuestCommand { Code = "true", User = new string('u', Limits.MaxUserLength + 1) }, Options));
        RequestLimits.Check(new GuestCommand { Code = "true", User = "0" }, Options);
        RequestLimits.Check(new GuestCommand { Code = "true", User = $"{RequestLimits.MaxUserNumber}" }, Options);
        Assert.True(TemplateStore.IsName(new string('t', Limits.MaxTemplateLength)));
        Assert.False(TemplateStore.IsName(new string('t', Limits.MaxTemplateLength + 1)));
    }

    [Theory]
    [InlineData(16 * 1024, "16 KiB")]
    [InlineData(1024 * 1024, "1 MiB")]
    [InlineData(1536 * 1024, "1.5 MiB")]
    public void Sizes_are_written_with_units(int bytes, string words) => Assert.Equal(words, Limits.Size(bytes));
}
