using System.Net;
using Pandora.Client;
using Pandora.HostTests.World;
using Pandora.Prove;
using Pandora.Prove.Checks;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>The stage that './pandora prove' plays on.</summary>
public sealed class StageFixture : IAsyncLifetime
{
    internal Stage Stage { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Stage = await Stage.CreateAsync();

    public ValueTask DisposeAsync() => Stage?.DisposeAsync() ?? ValueTask.CompletedTask;
}

/// <summary>What './pandora prove' shows, each check by itself, and what needs a package mirror.</summary>
public sealed class IsolationTests(StageFixture fixture) : IClassFixture<StageFixture>, IAsyncLifetime
{
    private Sandbox _sandbox = null!;

    public static TheoryData<string> Names => [.. Isolation.All.Concat(Walls.All).Concat(Lifecycle.All).Select(c => c.Name)];

    public async ValueTask InitializeAsync() => _sandbox = await fixture.Stage.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });

    public async ValueTask DisposeAsync()
    {
        try
        {
            await _sandbox.DisposeAsync();
        }
        catch (SandboxGoneException)
        {
            // A check has killed it.
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public async Task It_holds(string name) => Assert.NotEmpty(
        await Isolation.All.Concat(Walls.All).Concat(Lifecycle.All).Single(c => c.Name == name).RunAsync(fixture.Stage, _sandbox));

    [Fact]
    public async Task A_package_is_installed_from_a_mirror_over_the_network()
    {
        // The original's example, from a mirror in this world: what the real one serves was fetched by the host's own apt.
        var mirror = Directory.CreateTempSubdirectory("pandora-mirror-");
        try
        {
            await Pandora.Linux.Command.RunAsync(
                "sh",
                [
                    "-ec",
                    "cd \"$1\"; apt-get -q -o APT::Sandbox::User=root download cowsay libtext-charwidth-perl; for f in *.deb; do "
                        + "dpkg-deb -f \"$f\"; printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \"$f\" \"$(stat -c %s \"$f\")\" "
                        + "\"$(sha256sum \"$f\" | cut -d' ' -f1)\"; done > Packages",
                    "mirror",
                    mirror.FullName,
                ]);
            using var server = new FileServer(
                fixture.Stage.World.Internet, IPAddress.Parse(TestWorld.InternetAddress), 80, mirror.FullName);
            var result = await _sandbox.ExecAsync("echo 'deb [trusted=yes] http://mirror.example/ ./' > /etc/apt/sources.list && apt-get update -q && apt-get install "
                    + "-q -y cowsay && /usr/games/cowsay moo", new ExecOptions { Timeout = TimeSpan.FromSeconds(200) });
            Assert.True(result.ExitCode == 0, result.Stdout + result.Stderr);
            Assert.Contains("< moo >", result.Stdout);
        }
        finally
        {
            mirror.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task The_guest_has_the_uplinks_mtu() =>
        Assert.Equal("1400\n", (await _sandbox.ExecAsync("cat /sys/class/net/eth0/mtu")).Stdout);
}
