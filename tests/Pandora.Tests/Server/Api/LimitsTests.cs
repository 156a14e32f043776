using System.Text.Json;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;

namespace Pandora.Tests.Api;

/// <summary>Limits in places that are not generated from the table: the engine, comments and pages.</summary>
public sealed class LimitsTests
{
    private static readonly string IdleTimeouts = $"{Limits.MinIdleTimeout:0} to {Limits.MaxIdleTimeout:0}";

    private static readonly string ExecTimeouts = $"{Limits.MinExecTimeout:0} to {Limits.MaxExecTimeout:0}";

    public static TheoryData<string, string, string> Described => new()
    {
        { nameof(CreateSandboxRequest), "idle_timeout", $"{IdleTimeouts} unless" },
        { nameof(CreateSandboxRequest), "idle_timeout", $"the server's, {Limits.DefaultIdleTimeout:0}." },
        { nameof(CreateSandboxRequest), "metadata", $"at most {Limits.Size(Limits.MaxMetadataBytes)} in all" },
        { nameof(CreateSandboxRequest), "egress", string.Join(" or ", Label.All<Egress>().Select(e => $"`{e}`")) },
        { nameof(ExecRequest), "code", $"at most {Limits.Size(Limits.MaxCodeBytes)} of" },
        { nameof(ExecRequest), "timeout", $": {ExecTimeouts}." },
        { nameof(ExecRequest), "timeout", $"means: {Limits.DefaultExecTimeout:0}." },
        { nameof(ExecRequest), "env", $"at most {Limits.Size(Limits.MaxEnvBytes)} in all" },
        { nameof(ExecRequest), "stdin", $"at most {Limits.Size(Limits.MaxStdinBytes)} of" },
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
        Assert.Contains($"`idle_timeout` ({Limits.MinIdleTimeout:0}–{Limits.MaxIdleTimeout:0} s)", http);
        Assert.Contains($"`timeout` ({Limits.MinExecTimeout:0}–{Limits.MaxExecTimeout:0} s)", http);
        Assert.Contains($"up to {Limits.Size(Limits.MaxStdinBytes)})", Repository.Read("docs/cli.md"));
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
            (Limits.MinIdleTimeout, Limits.MinExecTimeout, Limits.MaxExecTimeout),
            (RequestLimits.MinIdleTimeout, RequestLimits.MinTimeout, RequestLimits.MaxTimeout));
        var options = new EngineOptions();
        Assert.Equal((Limits.DefaultIdleTimeout, Limits.MaxIdleTimeout), (options.IdleTimeout, options.MaxIdleTimeout));
        Assert.Equal(Limits.MaxOutputBytes, new GuestCommand { Code = "true" }.OutputLimit);
    }

    [Fact]
    public void Names_of_users_and_templates_have_the_same_pattern()
    {
        RequestLimits.Check(new GuestCommand { Code = "true", User = new string('u', Limits.MaxUserLength) });
        Assert.Throws<PandoraException>(
            () => RequestLimits.Check(new GuestCommand { Code = "true", User = new string('u', Limits.MaxUserLength + 1) }));
        RequestLimits.Check(new GuestCommand { Code = "true", User = "0" });
        RequestLimits.Check(new GuestCommand { Code = "true", User = $"{RequestLimits.MaxUserNumber}" });
        Assert.True(TemplateStore.IsName(new string('t', Limits.MaxTemplateLength)));
        Assert.False(TemplateStore.IsName(new string('t', Limits.MaxTemplateLength + 1)));
    }

    [Theory]
    [InlineData(16 * 1024, "16 KiB")]
    [InlineData(1024 * 1024, "1 MiB")]
    [InlineData(1536 * 1024, "1.5 MiB")]
    public void Sizes_are_written_with_units(int bytes, string words) => Assert.Equal(words, Limits.Size(bytes));
}
