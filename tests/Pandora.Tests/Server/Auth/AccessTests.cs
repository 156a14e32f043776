using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine.Projects;
using Pandora.Fakes;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Auth;

/// <summary>Keys and projects of a file that changes while the server runs.</summary>
public sealed class AccessTests : IDisposable
{
    private const string Hash = "0000000000000000000000000000000000000000000000000000000000000000";
    private const string Rest = """"name": "n", "project": "default", "created": "2026-01-01T00:00:00Z"}]}"""";
    private static readonly TimeSpan Tick = Access.Interval;
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly FakeTime _time = new();
    private readonly AccessStore _store;

    public AccessTests() => _store = new AccessStore(_directory);

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task Without_keys_nobody_needs_one_and_with_the_first_key_everybody_does()
    {
        using var access = await OpenAsync();
        Assert.True(access.IsOpen);
        await ChangeAsync(f => f with { Projects = [new Project("p")] });
        _time.Advance(Tick);
        Assert.True(access.IsOpen);
        Assert.True(access.LetsIn(isForMetrics: false));
        var key = await AddAsync("p", KeyRole.User);
        // No time passes.
        Assert.False(access.LetsIn(isForMetrics: false));
        Assert.False(access.LetsIn(isForMetrics: true));
        var found = access.Find(key);
        Assert.Equal(("p", KeyRole.User), (found!.Entry.Project, found.Entry.Role));
    }

    [Fact]
    public async Task A_new_key_works_at_once_and_the_file_holds_none()
    {
        using var access = await OpenAsync();
        var key = await AddAsync();
        // No time passes.
        Assert.NotNull(access.Find(key));
        Assert.Null(access.Find(key + "0"));
        Assert.Null(access.Find(key[..^1]));
        Assert.Null(access.Find(""));
        Assert.DoesNotContain(key[4..], await File.ReadAllTextAsync(_store.Path), StringComparison.Ordinal);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(_store.Path));
    }

    [Fact]
    public async Task A_revoked_key_ends_what_it_began_within_a_second_and_lets_nobody_in()
    {
        var (key, other) = (await AddAsync(), await AddAsync());
        using var access = await OpenAsync();
        var (revoked, kept) = (access.Find(key)!, access.Find(other)!);
        await ChangeAsync(f => f with { Keys = [.. f.Keys.Where(k => k.Id != revoked.Entry.Id)] });
        Assert.False(revoked.Revoked.IsCancellationRequested);
        _time.Advance(Tick);
        Assert.True(revoked.Revoked.IsCancellationRequested);
        Assert.Null(access.Find(key));
        // The key that stays is the same: its requests run on.
        Assert.Same(kept, access.Find(other));
        Assert.False(kept.Revoked.IsCancellationRequested);
        await ChangeAsync(f => f with { Keys = [] });
        _time.Advance(Tick);
        Assert.False(access.IsOpen);
        using var next = await OpenAsync();
        Assert.False(next.IsOpen);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{\"version\": 1, \"needs_key\": tr")]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("{\"version\": 2}")]
    [InlineData("{\"version\": 1, \"needs_key\": true, \"secrets\": []}")]
    [InlineData("{\"version\": 1, \"needs_key\": true, \"needs_key\": false}")]
    [InlineData("{\"version\": 1, \"needs_key\": true, \"projects\": [{\"name\": \"p\"}, {\"name\": \"p\"}]}")]
    [InlineData("{\"version\": 1, \"needs_key\": true, \"projects\": [{\"name\": \"../p\"}]}")]
    [InlineData("""{"version": 1, "needs_key": true, "keys": [{"id": "00", "role": "admin", "hash": "00", """ + Rest)]
    [InlineData("""{"version": 1, "needs_key": true, "keys": [{"id": "00000000", "role": 0, "hash": """ + "\"" + Hash + "\", " + Rest)]
    [InlineData("""{"version": 1, "keys": [{"id": "00000000", "role": "admin", "hash": """ + "\"" + Hash + "\", " + Rest)]
    public async Task A_damaged_file_changes_nothing_and_is_said(string content)
    {
        var key = await AddAsync();
        using var access = await OpenAsync();
        var good = await File.ReadAllBytesAsync(_store.Path);
        var found = access.Find(key);
        await File.WriteAllTextAsync(_store.Path, content);
        _time.Advance(Tick);
        Assert.Same(found, access.Find(key));
        Assert.False(found!.Revoked.IsCancellationRequested);
        Assert.False(access.IsOpen);
        Assert.Contains(_store.Path, access.Problem, StringComparison.Ordinal);
        // A server that starts does not know who may pass, and does not start.
        Assert.Throws<AccessFileException>(() => Create());
        await Assert.ThrowsAsync<AccessFileException>(() => ChangeAsync(f => f));
        await File.WriteAllBytesAsync(_store.Path, good);
        _time.Advance(Tick);
        Assert.Null(access.Problem);
        Assert.Same(found, access.Find(key));
    }

    [Fact]
    public async Task A_file_that_is_gone_changes_nothing_until_the_server_ends()
    {
        var key = await AddAsync();
        using var access = await OpenAsync();
        File.Delete(_store.Path);
        _time.Advance(Tick);
        Assert.NotNull(access.Find(key));
        Assert.False(access.IsOpen);
        Assert.Contains("is gone", access.Problem, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_key_expires_also_when_the_clock_is_set_back()
    {
        var now = _time.GetUtcNow();
        var key = await AddAsync(expires: now.AddMinutes(10));
        using (var access = await OpenAsync())
        {
            _time.Advance(TimeSpan.FromMinutes(9));
            // Set back by an hour, a minute before the end.
            _time.Jump(TimeSpan.FromHours(-1));
            Assert.NotNull(access.Find(key));
            var found = access.Find(key)!;
            _time.Advance(TimeSpan.FromMinutes(1));
            Assert.Null(access.Find(key));
            Assert.True(found.Revoked.IsCancellationRequested);
        }

        // By the host's clock it has 50 minutes left.
        using var next = await OpenAsync();
        Assert.Null(next.Find(key));
    }

    [Fact]
    public async Task An_expiry_is_noticed_without_a_request()
    {
        var key = await AddAsync(expires: _time.GetUtcNow().AddSeconds(5));
        using var access = await OpenAsync();
        var found = access.Find(key)!;
        _time.Advance(TimeSpan.FromSeconds(4));
        Assert.False(found.Revoked.IsCancellationRequested);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.True(found.Revoked.IsCancellationRequested);
    }

    [Fact]
    public async Task Last_uses_are_noted_and_outlive_the_server()
    {
        var (key, unused) = (await AddAsync(), await AddAsync());
        using (var access = await OpenAsync())
        {
            access.Used(access.Find(key)!);
            _time.Advance(Access.UsesInterval);
            Assert.Single(KeyUsesFile.Read(_store).LastUses);
        }

        using var next = await OpenAsync();
        Assert.NotNull(next.Find(key)!.LastUse);
        Assert.Null(next.Find(unused)!.LastUse);
    }

    [Fact]
    public async Task The_hosts_command_line_has_a_key_of_its_own()
    {
        await AddAsync();
        string kept;
        using (var access = await OpenAsync())
        {
            kept = (await File.ReadAllTextAsync(_store.CliKeyPath)).Trim();
            Assert.Equal(KeyRole.Admin, access.Find(kept)!.Entry.Role);
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(_store.CliKeyPath));
        }

        using var next = await OpenAsync();
        Assert.NotNull(next.Find(kept));
    }

    [Fact]
    public async Task Commands_that_change_the_file_at_once_lose_nothing()
    {
        await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => Task.Run(() => AddAsync())));
        Assert.Equal(20, _store.Read()!.Keys.Count);
        Assert.Equal([_store.Path, _store.Path + ".lock"], Directory.GetFiles(_directory).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task A_change_that_was_killed_leaves_the_old_file()
    {
        var key = await AddAsync();
        await File.WriteAllTextAsync(_store.Path + ".new", "{\"versi");
        using var access = await OpenAsync();
        Assert.NotNull(access.Find(key));
        Assert.NotNull(access.Find(await AddAsync()));
    }

    [Fact]
    public async Task A_project_that_was_removed_has_no_bounds()
    {
        await ChangeAsync(f => f with { Projects = [new Project("p") { MaxSandboxes = 1 }] });
        using var access = await OpenAsync();
        Assert.Equal(1, access.FindProject("p").MaxSandboxes);
        await ChangeAsync(f => f with { Projects = [] });
        _time.Advance(Tick);
        Assert.Equal(new Project("p"), access.FindProject("p"));
    }

    private async Task<Access> OpenAsync()
    {
        var access = Create();
        await access.StartAsync(CancellationToken.None);
        return access;
    }

    private Access Create() => new(_store, new ServerOptions(), _time, NullLogger<Access>.Instance);

    private Task ChangeAsync(Func<AccessFile, AccessFile> change) =>
        _store.ChangeAsync(change, TimeProvider.System, CancellationToken.None);

    private async Task<string> AddAsync(string project = Project.DefaultName, KeyRole role = KeyRole.Admin, DateTimeOffset? expires = null)
    {
        var key = Key.Create(isE2b: false);
        var hash = Convert.ToHexStringLower(Key.HashOf(key));
        var entry = new KeyEntry(hash[..8], hash[..8], project, role, hash, _time.GetUtcNow(), expires);
        await ChangeAsync(f => f with { NeedsKey = true, Keys = [.. f.Keys, entry] });
        return key;
    }
}
