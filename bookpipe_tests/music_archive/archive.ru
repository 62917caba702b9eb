# frozen_string_literal: true

# The music archive's upload endpoints over a real Active Storage: Rails 6.1, the Disk service, SQLite, puma.
# Started by rails_server.py. What Rails itself decides is left to Rails; what the archive's own code decides is
# written anew here, after its measured behaviour. With ARCHIVE_DIRECT_UPLOAD=1 the two missing actions exist.
#
#   ARCHIVE_DIRECTORY      where the database and the files are
#   ARCHIVE_PASSWORD       of every user
#   PATCH /__state__       {"url_seconds": n} changes the life of upload urls, {"direct_upload": b} the two actions

require "logger"
require "rails"
require "active_record/railtie"
require "active_storage/engine"
require "action_controller/railtie"

DIRECTORY = ENV.fetch("ARCHIVE_DIRECTORY")
PASSWORD = ENV.fetch("ARCHIVE_PASSWORD")
SWITCHES = { direct_upload: ENV["ARCHIVE_DIRECT_UPLOAD"] == "1" }
ALLOWED_TYPES = %w[audio/mpeg audio/mp3 audio/x-m4a audio/mp4 audio/ogg audio/flac audio/wav audio/aac].freeze
FORMATS = { "audio/mpeg" => "mp3", "audio/mp4" => "m4a", "audio/ogg" => "ogg", "audio/flac" => "flac", "audio/aac" => "aac" }.freeze
USERS = [
  { name: "Ada", email: "admin@archive.test", role: "admin" },
  { name: "Mo", email: "moderator@archive.test", role: "moderator" },
  { name: "Lis", email: "listener@archive.test", role: "user" }
].freeze

# One connection: sqlite3 1.4 waits for locks while it holds Ruby's own, and threads would wait for each other.
ENV["DATABASE_URL"] = "sqlite3:#{DIRECTORY}/archive.sqlite3?pool=1&timeout=5000"

# Marcel 1.0.4 over the 1.0.1 of this Rails: a later hint may only refine an earlier one, and these signatures.
module Marcel104
  def for(source = nil, name: nil, extension: nil, declared_type: nil)
    named = for_name(name) || for_extension(extension)
    candidates = [for_data(source), for_declared_type(declared_type), named, Marcel::MimeType::BINARY]
    candidates.compact.uniq.reduce { |found, hint| Marcel::Magic.child?(hint, found) ? hint : found }
  end
end
Marcel::MimeType.singleton_class.prepend(Marcel104)
Marcel::MimeType.extend "audio/aac", extensions: %w[aac], parents: "audio/x-aac"
Marcel::MimeType.extend "audio/opus", extensions: %w[opus], parents: "audio/ogg", magic: [[0, "OggS", [[28, "OpusHead"]]]]
Marcel::MimeType.extend "audio/ogg", extensions: %w[ogg oga], magic: [[0, "OggS", [[29, "vorbis"]]]]
Marcel::MimeType.extend "video/mp4", extensions: %w[mp4 m4v], magic: [[4, "ftypisom"], [4, "ftypM4V "]]
Marcel::MimeType.extend "audio/flac", extensions: %w[flac], parents: "audio/x-flac", magic: [[0, "fLaC"]]
Marcel::MimeType.extend "audio/x-wav", extensions: %w[wav], parents: "audio/vnd.wav", magic: [[0, "RIFF", [[8, "WAVE"]]]]

class Archive < Rails::Application
  config.load_defaults 6.1
  config.root = DIRECTORY
  config.eager_load = false
  config.consider_all_requests_local = false
  config.action_dispatch.show_exceptions = true
  config.public_file_server.enabled = false
  config.secret_key_base = "a key of the tests, long enough for every verifier that is made from it"
  config.session_store :cookie_store, key: "_archive_session"
  config.hosts.clear
  config.logger = Logger.new($stderr)
  config.log_level = :warn
  config.active_storage.service = :local
  config.active_storage.service_configurations = { local: { service: "Disk", root: "#{DIRECTORY}/storage" } }
  config.active_storage.analyzers = []
  config.active_storage.previewers = []
  config.active_job.queue_adapter = :inline if config.respond_to?(:active_job)

  # Before initialize!: routes that are drawn later wipe out Active Storage's own.
  routes.append do
    scope "/api/v1" do
      post "auth/login" => "auth#login"
      post "auth/refresh" => "auth#refresh"
      get "auth/verify" => "auth#verify"
      post "auth/logout" => "auth#logout"
      post "songs/bulk_upload" => "songs#bulk_upload"
      post "songs/direct_upload" => "songs#direct_upload", constraints: ->(_) { SWITCHES[:direct_upload] }
      post "songs/create_from_blob" => "songs#create_from_blob", constraints: ->(_) { SWITCHES[:direct_upload] }
      post "songs/direct_upload" => "songs#no_such_action"
      post "songs/create_from_blob" => "songs#no_such_action"
      post "songs/bulk_create" => "songs#bulk_create"
      put "songs/bulk_update" => "songs#bulk_update"
      delete "songs/bulk_destroy" => "songs#bulk_destroy"
      get "songs" => "songs#index"
      get "songs/:id" => "songs#show"
      get "audio_files/:id" => "audio_files#show"
      get "audio_files/:id/stream" => "audio_files#bytes"
      get "audio_files/:id/download" => "audio_files#bytes"
      get "health" => "pages#health"
    end
    get "up" => "pages#up"
    get "login" => "pages#login"
    patch "__state__" => "pages#change_state"
    root to: redirect("/login", status: 302)
  end
end

Archive.initialize!

ActiveRecord::Base.connection.execute("PRAGMA journal_mode = WAL")
ActiveRecord::Schema.verbose = false
ActiveRecord::Schema.define do
  next if table_exists?(:songs)

  create_table(:artists) { |t| t.string :name, null: false, index: { unique: true } }
  create_table(:genres) { |t| t.string :name, null: false, index: { unique: true } }
  create_table(:albums) { |t| t.string :title, null: false, index: true }
  create_table :songs, id: :string, limit: 36 do |t|
    t.string :title, null: false
    t.references :artist
    t.references :album
    t.references :genre
    t.integer :track_number, limit: 4
    t.integer :duration, limit: 4
    t.string :file_format
    t.bigint :file_size
    t.string :original_filename
    t.string :processing_status, null: false
    t.string :processing_error
    t.datetime :created_at, precision: 6, null: false
    t.datetime :updated_at, precision: 6, null: false
  end
  create_table :active_storage_blobs do |t|
    t.string :key, null: false, index: { unique: true }
    t.string :filename, null: false
    t.string :content_type
    t.text :metadata
    t.string :service_name, null: false
    t.bigint :byte_size, null: false
    t.string :checksum, null: false
    t.datetime :created_at, null: false
  end
  create_table :active_storage_attachments do |t|
    t.string :name, null: false
    t.references :record, null: false, polymorphic: true, index: false, type: :string
    t.references :blob, null: false
    t.datetime :created_at, null: false
  end
end

class Artist < ActiveRecord::Base
  validates :name, length: { maximum: 200 }
end

class Genre < ActiveRecord::Base
  validates :name, length: { maximum: 100 }
end

class Album < ActiveRecord::Base
  validates :title, length: { maximum: 200 }
end

class Song < ActiveRecord::Base
  belongs_to :artist, optional: true
  belongs_to :album, optional: true
  belongs_to :genre, optional: true
  has_one_attached :audio_file

  validates :title, length: { maximum: 200 }, allow_blank: true
  validates :original_filename, length: { maximum: 255 }, allow_blank: true
  validates :track_number, :duration, numericality: { only_integer: true, greater_than: 0 }, allow_blank: true
  validate do
    if audio_file.attached? && ALLOWED_TYPES.exclude?(audio_file.content_type)
      errors.add(:audio_file, "must be an audio file (mp3, m4a, mp4, ogg, flac, wav, aac)")
    end
  end
  before_create { self.id = SecureRandom.uuid }
  before_save { self.processing_status = "completed" if processing_status == "needs_review" && title.present? && artist }
end

module Api
  extend ActiveSupport::Concern

  DEFAULT_LIFE = 2.days
  LONGEST_LIFE = 30.days

  included do
    skip_forgery_protection
    include ActiveStorage::SetCurrent
    rescue_from(ActiveRecord::RecordNotFound) { redirect_to "/" }
  end

  private

  def encryptor
    ActiveSupport::MessageEncryptor.new(Rails.application.secret_key_base[0, 32])
  end

  def token_for(user)
    asked = params[:expires_in].to_i
    life = asked.positive? ? [asked.seconds, LONGEST_LIFE].min : DEFAULT_LIFE
    expires_at = (Time.now + life).to_i
    sealed = encryptor.encrypt_and_sign({ email: user[:email], exp: expires_at }.to_json)
    { api_token: Base64.urlsafe_encode64(sealed), expires_at: expires_at }
  end

  def user_json(user)
    { id: Digest::UUID.uuid_v5(Digest::UUID::URL_NAMESPACE, user[:email]), **user }
  end

  def authenticate
    token = request.headers["Authorization"].to_s.sub(/\ABearer\s+/, "")
    return failure(401, "Missing API token") if token.blank?

    payload = JSON.parse(encryptor.decrypt_and_verify(Base64.urlsafe_decode64(token)))
    return failure(401, "API token expired") if Time.now.to_i > payload["exp"]

    @user = USERS.find { |user| user[:email] == payload["email"] } or raise "no such user"
  rescue StandardError
    failure(401, "Invalid API token")
  end

  def allow_uploads
    failure(403, "Insufficient permissions. Moderator or admin role required.") unless %w[moderator admin].include?(@user[:role])
  end

  def success(content, status = 200)
    render json: { success: true, **content }, status: status
  end

  def failure(status, message, errors = nil)
    render json: { success: false, message: message, errors: errors }.compact, status: status
  end

  def urls(song)
    base = "#{request.base_url}/api/v1/audio_files/#{song.id}"
    { stream_url: "#{base}/stream", download_url: "#{base}/download" }
  end

  def row(song, *names)
    all = { artist: song.artist&.name, album: song.album&.title, genre: song.genre&.name }
    names.to_h { |name| [name, all.key?(name) ? all[name] : song[name]] }
  end
end

class AuthController < ActionController::Base
  include Api
  before_action :authenticate, except: :login

  def login
    user = USERS.find { |known| known[:email] == params[:email] }
    return failure(401, "Invalid email or password") unless user && params[:password] == PASSWORD

    success(message: "Authentication successful", **token_for(user), user: user_json(user))
  end

  def refresh
    success(**token_for(@user), user: user_json(@user))
  end

  def verify
    success(message: "API token is valid", user: user_json(@user))
  end

  def logout
    success(message: "Logged out successfully")
  end
end

class SongsController < ActionController::Base
  include Api
  before_action :authenticate
  before_action :allow_uploads, only: %i[bulk_upload direct_upload create_from_blob]

  LISTED = %i[id title artist album genre duration track_number file_format processing_status created_at].freeze
  SORTED = %w[created_at title duration track_number processing_status].freeze

  def index
    found = Song.left_joins(:artist, :album, :genre).includes(:artist, :album, :genre)
    params[:search].to_s.split.first(10).each do |word|
      columns = %w[songs.title artists.name albums.title genres.name]
      found = found.where(columns.map { |column| "#{column} LIKE :word" }.join(" OR "), word: "%#{word}%")
    end
    column = SORTED.include?(params[:sort_by]) ? params[:sort_by] : "created_at"
    limit = (params[:limit] || 50).to_i.clamp(1, 100)
    page = [(params[:page] || 1).to_i, 1].max
    total = found.count
    songs = found.order(column => params[:sort_order] == "asc" ? :asc : :desc).limit(limit).offset((page - 1) * limit)
    pages = { current_page: page, total_pages: (total.to_f / limit).ceil, total_count: total, limit: limit }
    success(songs: songs.map { |song| row(song, *LISTED) }, pagination: pages)
  end

  def show
    song = Song.find(params[:id])
    return send_data(song.audio_file.download, type: song.audio_file.content_type) if params[:include] == "binary"

    linked = { artist: song.artist.name, album: song.album.title, genre: song.genre.name }
    shown = row(song, :id, :title, :duration, :file_format)
    success(song: { **shown, **linked, file_size: song.audio_file.byte_size, **urls(song) })
  end

  def bulk_upload
    create_song(params[:audio_file], params)
  end

  def create_from_blob
    values = params.to_unsafe_h
    values = (values["metadata"] || {}).merge(values).with_indifferent_access
    create_song(values[:signed_id] || values[:blob_signed_id], values.reverse_merge(filename: ""))
  end

  def direct_upload
    asked = (params[:blob] || params).permit(:filename, :byte_size, :checksum, :content_type).to_h.symbolize_keys
    # Rails 8 validates this; 6.1 leaves it to the database.
    missing = %i[filename byte_size checksum].select { |name| asked[name].blank? }
    if missing.any?
      return failure(422, "Failed to create direct upload", missing.map { |name| "#{name.to_s.humanize} can't be blank" })
    end

    blob = ActiveStorage::Blob.create_before_direct_upload!(**asked)
    to = { url: blob.service_url_for_direct_upload, headers: blob.service_headers_for_direct_upload }
    success(**blob.as_json(root: false, methods: :signed_id).symbolize_keys, direct_upload: to)
  end

  private

  def create_song(source, values)
    return failure(422, "No audio file provided") if source.blank?

    song = Song.new(processing_status: "needs_review")
    song.audio_file.attach(source)
    song.original_filename = values[:filename] || source.original_filename
    %i[title track_number duration].each { |name| song[name] = values[name].presence }
    song.artist = found_or_made(Artist, :name, values[:artist_name])
    song.album = found_or_made(Album, :title, values[:album_title])
    song.genre = found_or_made(Genre, :name, values[:genre_name])
    return failure(422, "Failed to save song", song.errors.full_messages) unless song.save

    finish(song) unless [true, "true"].include?(values[:skip_post_processing])
    shown = %i[id title artist album genre processing_status created_at]
    success({ message: "Song uploaded successfully", song: row(song, *shown) }, 201)
  rescue StandardError => e
    failure(500, "Upload failed: #{e.message}")
  end

  def found_or_made(model, column, name)
    model.find_or_create_by!(column => name) if name.present?
  end

  def finish(song)
    size = song.audio_file.byte_size
    song.update!(file_format: FORMATS[song.audio_file.content_type], file_size: size.zero? ? nil : size)
  end
end

class AudioFilesController < ActionController::Base
  include Api
  before_action :authenticate

  def show
    song = Song.find(params[:id])
    shown = row(song, :title, :artist, :album, :duration, :file_format, :file_size)
    render json: { song_id: song.id, **shown, checksum: song.audio_file.checksum, **urls(song) }
  end

  def bytes
    song = Song.find(params[:id])
    send_data song.audio_file.download, type: song.audio_file.content_type
  end
end

class PagesController < ActionController::Base
  skip_forgery_protection only: :change_state

  def up
    render html: '<!DOCTYPE html><html><body style="background-color: green"></body></html>'.html_safe
  end

  def login
    render html: %(<html><head><meta name="csrf-token" content="#{form_authenticity_token}" /></head></html>).html_safe
  end

  # The probe of the real one: a blob's url of a text.
  def health
    ActiveStorage::Blob.service.url("test", expires_in: 60, disposition: :inline, filename: "test", content_type: nil)
    render json: { status: "healthy" }
  rescue NoMethodError
    render json: { status: "unhealthy", checks: { storage: "unhealthy" } }, status: 503
  end

  def change_state
    ActiveStorage.service_urls_expire_in = params[:url_seconds].to_f.seconds if params.key?(:url_seconds)
    SWITCHES[:direct_upload] = params[:direct_upload] if params.key?(:direct_upload)
    render json: { url_seconds: ActiveStorage.service_urls_expire_in.to_f, **SWITCHES }
  end
end

# The thread that booted keeps the only connection otherwise.
ActiveRecord::Base.connection_handler.clear_active_connections!

run Archive
